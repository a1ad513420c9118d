import { describe, expect, it, vi } from 'vitest'
import { acquireMany, createSemaphore, type Locker } from '../../src/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'
import { delegate } from '../delegate.ts'

describe('createMemoryLocker', () => {
  it('lockers on one store exclude each other, others do not', async () => {
    const store = {}
    const [one, other, stranger] = [createMemoryLocker({ store }), createMemoryLocker({ store }), createMemoryLocker()]
    await one.acquire('a')
    expect(await other.tryAcquire('a')).toBeNull()
    expect(await stranger.tryAcquire('a')).not.toBeNull()
  })

  it('a grant whose time has come does not stand in the way, although no timer has fired', async () => {
    let now = 0
    const store = {}
    const locker = createMemoryLocker({ store, now: () => now })
    const lock = await locker.acquire('a', { ttlMs: 60_000 })
    now = 60_000
    expect(await locker.tryAcquire('a')).not.toBeNull()
    expect(lock.isHeld()).toBe(false)
  })

  it('shared holders with a minHoldMs each keep the key for their own time', async () => {
    let now = 0
    const locker = createMemoryLocker({ now: () => now })
    const [long, short] = [
      await locker.acquire('a', { mode: 'shared', minHoldMs: 60_000 }),
      await locker.acquire('a', { mode: 'shared', minHoldMs: 30_000 }),
    ]
    await long.release()
    await short.release()
    now = 30_000
    expect(await locker.tryAcquire('a')).toBeNull()
    now = 60_000
    expect(await locker.tryAcquire('a')).not.toBeNull()
  })

  it.each(['abort', 'close'] as const)(
    'a wait that ends by %s between its grant and its next line gives the key back',
    async (end) => {
      const store = {}
      const [locker, other] = [createMemoryLocker({ store }), createMemoryLocker({ store })]
      const lock = await other.acquire('a')
      const controller = new AbortController()
      const waiter = locker.acquire('a', { signal: controller.signal })
      const failed = expect(waiter).rejects.toMatchObject(end === 'abort' ? { message: 'enough' } : { code: 'CLOSED' })
      // The hand-off happens inside release(); the waiter's own code runs in a later microtask.
      const released = lock.release()
      if (end === 'abort') controller.abort(new Error('enough'))
      else void locker.close()
      await Promise.all([failed, released])
      expect(await other.status('a')).toMatchObject({ isAcquired: false, waiters: 0 })
    },
  )

  it('forceRelease() tells whether there was a holder', async () => {
    const locker = createMemoryLocker()
    expect(await locker.forceRelease('a')).toBe(false)
    await locker.acquire('a')
    expect(await locker.forceRelease('a')).toBe(true)
  })
})

describe('acquireMany', () => {
  it('asks for all keys in one call where the adapter can', async () => {
    const locker = createMemoryLocker()
    const tryAcquireMany = vi.spyOn(locker, 'tryAcquireMany')
    const acquire = vi.spyOn(locker, 'acquire')
    await acquireMany(locker, ['b', 'a', 'c'])
    expect(tryAcquireMany).toHaveBeenCalledExactlyOnceWith(['a', 'b', 'c'], {})
    expect(acquire).not.toHaveBeenCalled()
  })

  it('refuses a string, which is an iterable of its letters', async () => {
    for (const bad of [{}, 7, null]) {
      await expect(acquireMany(createMemoryLocker(), bad as never)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
      await expect(acquireMany(createMemoryLocker(), ['orders'], null as never)).rejects.toMatchObject({
        code: 'INVALID_OPTIONS',
      })
    }
    const refused = acquireMany(createMemoryLocker(), 'orders')
    await expect(refused).rejects.toThrow('option keys: expected several keys; got "orders"; pass them in an array')
  })

  it('works without tryAcquireMany', async () => {
    const locker = delegate(createMemoryLocker())
    const set = await acquireMany(locker, ['b', 'a'])
    expect(set.locks.map((lock) => lock.key)).toEqual(['b', 'a'])
    expect(await locker.tryAcquire('a')).toBeNull()
    await set.release()
  })

  it('two names of one identity are one lock', async () => {
    const locker: Locker = Object.assign(createMemoryLocker(), { identityOf: (key: string) => key.toLowerCase() })
    const set = await acquireMany(locker, ['B', 'a', 'b'])
    expect(set.locks.map((lock) => lock.key)).toEqual(['B', 'a'])
    expect(set.get('b')).toBe(set.get('B'))
    expect(set.get('A')).toBe(set.locks[1])
    expect(set.get('c')).toBeUndefined()
  })

  it('waits in the order of identities, whatever the order of names', async () => {
    const locker: Locker = Object.assign(createMemoryLocker(), { identityOf: (key: string) => -BigInt(key) })
    await using taken = await locker.acquire('3')
    const acquire = vi.spyOn(locker, 'acquire')
    const set = acquireMany(locker, ['1', '3', '2'])
    await expect.poll(() => acquire.mock.calls.length).toBe(1)
    await taken.release()
    expect((await set).locks.map((lock) => lock.key)).toEqual(['1', '3', '2'])
    expect(acquire.mock.calls.map(([key]) => key)).toEqual(['3', '2', '1'])
  })

  it('gives up when a lock is lost while the others are waited for', async () => {
    const locker = createMemoryLocker()
    await using _taken = await locker.acquire('b')
    const set = acquireMany(locker, ['a', 'b'])
    const failed = expect(set).rejects.toMatchObject({ code: 'LOCK_LOST', key: 'a' })
    await expect.poll(async () => (await locker.status('b')).waiters).toBe(1)
    await locker.forceRelease('a')
    await failed
    expect((await locker.status('a')).isAcquired).toBe(false)
    expect((await locker.status('b')).waiters).toBe(0)
  })

  it('releases all although one is gone, and says so', async () => {
    const locker = createMemoryLocker()
    const set = await acquireMany(locker, ['a', 'b'])
    await locker.forceRelease('a')
    await expect(set.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect((await locker.status('b')).isAcquired).toBe(false)
    await set[Symbol.asyncDispose]()
  })

  it('refresh concerns all', async () => {
    const set = await acquireMany(createMemoryLocker(), ['a', 'b'])
    await set.refresh(5_000)
    expect(set.locks.map((lock) => lock.ttlMs)).toEqual([5_000, 5_000])
  })

  it('refuses no keys at all, and bad ones', async () => {
    const locker = createMemoryLocker()
    await expect(acquireMany(locker, [])).rejects.toMatchObject({ code: 'INVALID_OPTIONS', option: 'keys' })
    await expect(acquireMany(locker, ['a', ''])).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    expect((await locker.status('a')).isAcquired).toBe(false)
  })
})

describe('createSemaphore', () => {
  it.each([0, 1.5, 1_001, Number.NaN, '3'])('refuses %s permits', (permits) => {
    const options = { locker: createMemoryLocker(), key: 'a', permits: permits as number }
    expect(() => createSemaphore(options)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'permits' }),
    )
  })

  it('withPermit() gives the permit back when fn fails', async () => {
    const semaphore = createSemaphore({ locker: createMemoryLocker(), key: 'a', permits: 1 })
    await expect(semaphore.withPermit(() => Promise.reject(new Error('body')))).rejects.toThrow('body')
    await using permit = await semaphore.tryAcquire()
    expect(permit?.slot).toBe(0)
  })

  it('a waiter that is granted two permits at once keeps one', async () => {
    const semaphore = createSemaphore({ locker: createMemoryLocker(), key: 'a', permits: 2 })
    const [one, two] = [await semaphore.acquire(), await semaphore.acquire()]
    const waiter = semaphore.acquire()
    await new Promise(setImmediate)
    await Promise.all([one.release(), two.release()])
    const granted = await waiter
    const other = await semaphore.tryAcquire()
    expect([granted.slot, other?.slot].toSorted()).toEqual([0, 1])
    expect(await semaphore.tryAcquire()).toBeNull()
  })

  it('an abort ends the wait with its reason and leaves nobody in any line', async () => {
    const locker = createMemoryLocker()
    const semaphore = createSemaphore({ locker, key: 'a', permits: 2 })
    const permits = [await semaphore.acquire(), await semaphore.acquire()]
    const controller = new AbortController()
    const reason = new Error('enough')
    const waits = [semaphore.acquire({ signal: controller.signal }), semaphore.acquire({ signal: controller.signal })]
    await expect.poll(async () => (await locker.status('a/line')).waiters).toBe(1)
    controller.abort(reason)
    for (const wait of waits) await expect(wait).rejects.toBe(reason)
    for (const permit of permits) await permit.release()
    for (const key of ['a/line', 'a/permit/0', 'a/permit/1']) {
      expect(await locker.status(key)).toMatchObject({ isAcquired: false, waiters: 0 })
    }
  })
})
