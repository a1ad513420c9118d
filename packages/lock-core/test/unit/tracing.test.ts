import { channel, tracingChannel } from 'node:diagnostics_channel'
import { afterEach, describe, expect, it } from 'vitest'
import { createMemoryLocker } from '../../src/memory/index.ts'

const ended: (() => void)[] = []

/** The contexts that a tracing channel carries, as they are when the operation is over. */
function traces(name: string): object[] {
  const seen: object[] = []
  const subscriber = { asyncEnd: (context: object) => void seen.push({ ...context }) }
  const tracing = tracingChannel(name)
  tracing.subscribe(subscriber as never)
  ended.push(() => tracing.unsubscribe(subscriber as never))
  return seen
}

afterEach(() => {
  for (const end of ended.splice(0)) end()
})

describe('tracing channels', () => {
  it('coordination:lock.acquire tells how each attempt ended', async () => {
    const seen = traces('coordination:lock.acquire')
    const locker = createMemoryLocker()
    const lock = await locker.acquire('a')
    await locker.tryAcquire('a')
    await locker.acquire('a', { waitTimeoutMs: 0 }).catch(() => {})
    const controller = new AbortController()
    const aborted = locker.acquire('a', { signal: controller.signal, mode: 'shared' }).catch(() => {})
    controller.abort('a reason of any kind')
    await aborted
    await lock.release()
    expect(seen).toEqual([
      expect.objectContaining({ key: 'a', mode: 'exclusive', waits: true, outcome: 'acquired', fencingToken: 1n }),
      expect.objectContaining({ key: 'a', waits: false, outcome: 'contended' }),
      expect.objectContaining({ key: 'a', waits: true, outcome: 'timeout' }),
      expect.objectContaining({ key: 'a', mode: 'shared', outcome: 'aborted' }),
    ])
    for (const trace of seen) expect(trace).toHaveProperty('waitMs', expect.any(Number))
  })

  it('an attempt at several keys is one acquire for each of them', async () => {
    const seen = traces('coordination:lock.acquire')
    const locker = createMemoryLocker()
    const locks = await locker.tryAcquireMany(['a', 'b', 'a'])
    expect(locks?.length).toBe(3)
    expect(await locker.tryAcquireMany(['b', 'c'])).toBe(null)
    await expect(locker.tryAcquireMany(['c'], { mode: 'sideways' as never })).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
    })
    expect(seen).toEqual([
      expect.objectContaining({ key: 'a', waits: false, outcome: 'acquired', fencingToken: 1n, batchSize: 2 }),
      expect.objectContaining({ key: 'b', waits: false, outcome: 'acquired', fencingToken: 2n, batchSize: 2 }),
      expect.objectContaining({ key: 'b', outcome: 'contended' }),
      expect.objectContaining({ key: 'c', outcome: 'contended' }),
    ])
  })

  it('coordination:lock.release, .refresh and .lost tell what was held and for how long', async () => {
    const released = traces('coordination:lock.release')
    const refreshed = traces('coordination:lock.refresh')
    const lost: unknown[] = []
    const listen = (message: unknown): void => void lost.push(message)
    channel('coordination:lock.lost').subscribe(listen)
    ended.push(() => channel('coordination:lock.lost').unsubscribe(listen))
    const locker = createMemoryLocker()
    const lock = await locker.acquire('a')
    await lock.refresh(5_000)
    await lock.release()
    await locker.acquire('b')
    await locker.forceRelease('b')
    expect(refreshed).toEqual([expect.objectContaining({ key: 'a', ttlMs: 5_000, fencingToken: 1n })])
    expect(released).toEqual([expect.objectContaining({ key: 'a', holdMs: expect.any(Number) })])
    expect(lost).toEqual([
      { key: 'b', mode: 'exclusive', fencingToken: 2n, reason: 'forced', holdMs: expect.any(Number) },
    ])
  })
})
