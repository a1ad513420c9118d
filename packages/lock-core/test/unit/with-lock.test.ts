import { describe, expect, it, vi } from 'vitest'
import {
  acquireMany,
  createLeaderElector,
  createSemaphore,
  type Lock,
  type Locker,
  LockNotHeldError,
  tryWithLock,
  withLock,
} from '../../src/index.ts'
import { createMemoryLocker, createNoopLocker } from '../../src/memory/index.ts'

/** The memory locker, with locks whose release behaves as the test wants. */
function releasing(locker: Locker, release: (lock: Lock) => Promise<void>): Locker {
  return new Proxy(locker, {
    get(target, property) {
      if (property !== 'acquire') return Reflect.get(target, property, target)
      return async (key: string) => {
        const lock = await target.acquire(key)
        vi.spyOn(lock, 'release').mockImplementation(() => release(lock))
        return lock
      }
    },
  })
}

describe('withLock', () => {
  it('runs fn while holding the lock and releases it', async () => {
    const locker = createMemoryLocker()
    const value = await withLock(locker, 'a', async (lock) => {
      expect(lock.isHeld()).toBe(true)
      expect(await locker.tryAcquire('a')).toBeNull()
      return 7
    })
    expect(value).toBe(7)
    expect((await locker.status('a')).isAcquired).toBe(false)
  })

  it('passes options on', async () => {
    const locker = createMemoryLocker()
    await using _held = await locker.acquire('a')
    const fn = vi.fn()
    await expect(withLock(locker, 'a', { waitTimeoutMs: 0 }, fn)).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
    expect(fn).not.toHaveBeenCalled()
  })

  it.each([
    ['rejects', async () => Promise.reject(new Error('body'))],
    [
      'throws',
      () => {
        throw new Error('body')
      },
    ],
  ])('releases when fn %s', async (_, fn) => {
    const locker = createMemoryLocker()
    await expect(withLock(locker, 'a', fn)).rejects.toThrow('body')
    expect((await locker.status('a')).isAcquired).toBe(false)
  })

  it('rejects with LockLostError when the lock was lost although fn succeeded', async () => {
    const locker = createMemoryLocker()
    const lost = withLock(locker, 'a', () => locker.forceRelease('a'))
    await expect(lost).rejects.toMatchObject({ code: 'LOCK_LOST', reason: 'forced' })
  })

  it('the error of fn wins over the loss of the lock and over a failing release', async () => {
    const locker = createMemoryLocker()
    const lost = withLock(locker, 'a', async () => {
      await locker.forceRelease('a')
      throw new Error('body')
    })
    await expect(lost).rejects.toThrow('body')
    const failing = releasing(createMemoryLocker(), () => Promise.reject(new Error('release')))
    await expect(withLock(failing, 'a', () => Promise.reject(new Error('body')))).rejects.toThrow('body')
  })

  it('an error of the release is not swallowed when fn succeeded', async () => {
    const failing = releasing(createMemoryLocker(), () => Promise.reject(new Error('release')))
    await expect(withLock(failing, 'a', () => 7)).rejects.toThrow('release')
  })

  it('a release that finds the lock gone is a loss', async () => {
    const gone = releasing(createMemoryLocker(), (lock) =>
      Promise.reject(new LockNotHeldError({ key: lock.key, operation: 'release' })),
    )
    await expect(withLock(gone, 'a', () => 7)).rejects.toMatchObject({ code: 'LOCK_LOST' })
  })

  it('fn may release the lock itself', async () => {
    const locker = createMemoryLocker()
    expect(await withLock(locker, 'a', (lock) => lock.release().then(() => 7))).toBe(7)
  })
})

describe('tryWithLock', () => {
  it('runs fn, or says that somebody else has the lock', async () => {
    const locker = createMemoryLocker()
    const outcome = await tryWithLock(locker, 'night', {}, async () => {
      expect(await tryWithLock(locker, 'night', {}, () => expect.fail('ran twice'))).toEqual({ acquired: false })
      return 7
    })
    expect(outcome).toEqual({ acquired: true, value: 7 })
  })

  it('with minHoldMs the next replica does not run a job that has just ended', async () => {
    const store = {}
    const [one, other] = [createMemoryLocker({ store }), createMemoryLocker({ store })]
    const job = vi.fn()
    const ran = await tryWithLock(one, 'night', { minHoldMs: 60_000 }, job)
    const again = await tryWithLock(other, 'night', { minHoldMs: 60_000 }, job)
    expect([ran.acquired, again.acquired]).toEqual([true, false])
    expect(job).toHaveBeenCalledOnce()
  })
})

describe('createNoopLocker', () => {
  it('grants everyone, and its locks behave like locks', async () => {
    const locker = createNoopLocker()
    const [one, two] = [await locker.acquire('a'), await locker.acquire('a')]
    expect([one.isHeld(), two.isHeld(), one.fencingToken]).toEqual([true, true, null])
    await one.release()
    await expect(one.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect(await withLock(locker, 'a', () => 7)).toBe(7)
    await locker.close()
    expect(two.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'closed' })
    await expect(locker.acquire('a')).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('what is no locker or no function', () => {
  const none = undefined as unknown as Locker
  const pool = { connect: async () => {}, options: {} } as unknown as Locker
  const noFunction = {} as unknown as () => void

  it.each<[string, (locker: Locker) => Promise<unknown>]>([
    ['withLock', (locker) => withLock(locker, 'a', () => 1)],
    ['tryWithLock', (locker) => tryWithLock(locker, 'a', {}, () => 1)],
    ['acquireMany', (locker) => acquireMany(locker, ['a'])],
    ['createLeaderElector', async (locker) => createLeaderElector({ locker, key: 'a' })],
    ['createSemaphore', async (locker) => createSemaphore({ locker, key: 'a', permits: 1 })],
  ])('%s refuses it by name', async (name, call) => {
    await expect(call(none)).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      option: 'locker',
      message: `${name}: option locker: expected a Locker, such as createTableLocker() gives; got nothing`,
    })
    await expect(call(pool)).rejects.toMatchObject({ code: 'INVALID_OPTIONS', option: 'locker' })
  })

  it.each<[string, (locker: Locker) => Promise<unknown>]>([
    ['withLock', (locker) => withLock(locker, 'a', noFunction)],
    ['withLock', (locker) => withLock(locker, 'a', {}, noFunction)],
    ['tryWithLock', (locker) => tryWithLock(locker, 'a', {}, noFunction)],
    ['withPermit', (locker) => createSemaphore({ locker, key: 'a', permits: 1 }).withPermit(noFunction)],
  ])('%s takes no lock for what it cannot run', async (name, call) => {
    const locker = createMemoryLocker()
    const acquire = vi.spyOn(locker, 'acquire')
    const tryAcquire = vi.spyOn(locker, 'tryAcquire')
    await expect(call(locker)).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: `${name}: expected a function to run, as the last argument; got a value of type object`,
    })
    expect(acquire).not.toHaveBeenCalled()
    expect(tryAcquire).not.toHaveBeenCalled()
  })

  it('tryWithLock says that the options before the function are missing', async () => {
    await expect(Reflect.apply(tryWithLock, undefined, [createMemoryLocker(), 'a', () => 1])).rejects.toMatchObject({
      message:
        'tryWithLock: expected a function to run, as the last argument; got it without options before it, such as {}',
    })
  })
})
