import { describe, expect, it, vi } from 'vitest'
import { acquireMany, createSemaphore, type TryAcquireOptions } from '../../src/index.ts'
import { createMemoryLocker, type MemoryLocker } from '../../src/memory/index.ts'

/** A locker whose attempts wait for an answer until their signal ends them, as behind a pool that has no client. */
function silent(): MemoryLocker {
  const locker = createMemoryLocker()
  const never = (options: TryAcquireOptions = {}): Promise<never> =>
    new Promise((_, reject) => options.signal?.addEventListener('abort', () => reject(options.signal?.reason)))
  vi.spyOn(locker, 'tryAcquire').mockImplementation((_key, options) => never(options))
  vi.spyOn(locker, 'tryAcquireMany').mockImplementation((_keys, options) => never(options))
  return locker
}

describe('a store that does not answer', () => {
  it('keeps nobody longer than waitTimeoutMs, and is not taken for a holder', async () => {
    await expect(acquireMany(silent(), ['a', 'b'], { waitTimeoutMs: 20 })).rejects.toMatchObject({
      code: 'LOCK_TIMEOUT',
      key: 'a, b',
      answered: false,
    })
    const semaphore = createSemaphore({ locker: silent(), key: 's', permits: 2 })
    await expect(semaphore.acquire({ waitTimeoutMs: 20 })).rejects.toMatchObject({
      code: 'LOCK_TIMEOUT',
      key: 's',
      answered: false,
    })
  })

  it('keeps nobody whose signal aborts', async () => {
    const controller = new AbortController()
    const waiting = acquireMany(silent(), ['a'], { waitTimeoutMs: 60_000, signal: controller.signal })
    controller.abort('enough')
    await expect(waiting).rejects.toBe('enough')
  })
})

describe('a timeout that is none', () => {
  it.each([-1, Number.NaN, '5', null])('is refused: %s', async (value) => {
    const waitTimeoutMs = value as number
    const locker = createMemoryLocker()
    const refused = { code: 'INVALID_OPTIONS', option: 'waitTimeoutMs' }
    await expect(acquireMany(locker, ['a'], { waitTimeoutMs })).rejects.toMatchObject(refused)
    const semaphore = createSemaphore({ locker, key: 's', permits: 1 })
    await expect(semaphore.acquire({ waitTimeoutMs })).rejects.toMatchObject(refused)
  })
})
