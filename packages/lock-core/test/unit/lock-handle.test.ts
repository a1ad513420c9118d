import { describe, expect, it, vi } from 'vitest'
import { type GrantedLock, type LockFamily, LockHandle } from '../../src/adapter/index.ts'
import { LockNotHeldError } from '../../src/index.ts'
import { ManualClock } from '../manual-clock.ts'

function setUp(granted: Partial<GrantedLock<string>> = {}, family: Partial<LockFamily<string>> = {}) {
  const clock = new ManualClock()
  const hooks = {
    release: vi.fn(async (_lock: LockHandle<string>, _keepMs: number) => {}),
    refresh: vi.fn(async (_lock: LockHandle<string>, _ttlMs: number) => {}),
    lost: vi.fn(),
  }
  const lock = new LockHandle<string>(
    {
      key: 'a',
      mode: 'exclusive',
      fencingToken: 1n,
      sessionId: 's',
      acquiredAtMs: 0,
      startedAt: clock.now(),
      ttlMs: 1_000,
      grant: 'owner',
      ...granted,
    },
    { hooks, clock, ...family },
  )
  return { lock, clock, hooks }
}

describe('LockHandle', () => {
  it('is held until its deadline, counted from before the request, and not at it', () => {
    const { lock, clock, hooks } = setUp()
    clock.block(999)
    expect(lock.isHeld()).toBe(true)
    expect(lock.remainingMs()).toBe(1)
    clock.block(1)
    expect(lock.isHeld()).toBe(false)
    expect(lock.remainingMs()).toBe(0)
    expect(hooks.lost).toHaveBeenCalledOnce()
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'LOCK_LOST', reason: 'deadline' }))
  })

  it('a signal read before a blocked event loop has aborted in the first line after it', () => {
    const { lock, clock } = setUp()
    const { signal } = lock
    expect(signal.aborted).toBe(false)
    clock.block(1_000)
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toMatchObject({ code: 'LOCK_LOST' })
    expect(() => signal.throwIfAborted()).toThrow(expect.objectContaining({ code: 'LOCK_LOST' }))
  })

  it('that the store does not know any more is lost for the reason that fits the store', async () => {
    for (const gone of [undefined, 'session-ended'] as const) {
      for (const operation of ['release', 'refresh'] as const) {
        const { lock, hooks } = setUp({}, { gone })
        hooks[operation].mockRejectedValueOnce(new LockNotHeldError({ key: 'a', operation }))
        await expect(lock[operation]()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
        expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: gone ?? 'lease-expired' })
      }
    }
  })

  it('says why no renewal was confirmed, where the adapter knows, and only when the lease ran out', () => {
    const cause = new Error('the pool gave no client')
    const unrenewed = () => cause
    const late = setUp({}, { unrenewed })
    late.clock.block(1_000)
    expect(late.lock.signal.reason).toMatchObject({
      reason: 'deadline',
      cause,
      message: expect.stringContaining('before its local deadline (the pool gave no client); stop'),
    })
    const long = setUp({ maxHoldMs: 500 }, { unrenewed })
    long.clock.block(1_000)
    expect(long.lock.signal.reason).toMatchObject({ reason: 'max-hold' })
    expect(long.lock.signal.reason).not.toHaveProperty('cause')
  })

  it('a signal first read after the loss has aborted', () => {
    const { lock, clock } = setUp()
    clock.block(1_000)
    expect(lock.signal.aborted).toBe(true)
  })

  it('the signal is an AbortSignal that composes', () => {
    const { lock } = setUp()
    expect(lock.signal).toBeInstanceOf(AbortSignal)
    expect(lock.signal).toBe(lock.signal)
    const any = AbortSignal.any([lock.signal])
    lock.lose('forced')
    expect(any.aborted).toBe(true)
    expect(any.reason).toMatchObject({ reason: 'forced' })
  })

  it('makes a timer only where somebody depends on it, and cancels it', async () => {
    const unread = setUp()
    expect(unread.clock.pending).toBe(0)
    const infinite = setUp({ ttlMs: Number.POSITIVE_INFINITY })
    expect(infinite.lock.signal.aborted).toBe(false)
    expect(infinite.clock.pending).toBe(0)
    const read = setUp()
    expect(read.lock.signal.aborted).toBe(false)
    expect(read.clock.pending).toBe(1)
    await read.lock.release()
    expect(read.clock.pending).toBe(0)
    const enforced = setUp({}, { enforceTtl: true })
    expect(enforced.clock.pending).toBe(1)
    enforced.clock.advance(1_000)
    expect(enforced.hooks.lost).toHaveBeenCalledOnce()
    expect(enforced.clock.pending).toBe(0)
  })

  it('aborts by timer when nobody asks, once', () => {
    const { lock, clock } = setUp()
    const aborted = vi.fn()
    lock.signal.addEventListener('abort', aborted)
    clock.advance(999)
    expect(aborted).not.toHaveBeenCalled()
    clock.advance(1)
    expect(aborted).toHaveBeenCalledOnce()
    clock.advance(5_000)
    lock.lose('forced')
    expect(aborted).toHaveBeenCalledOnce()
    expect(lock.signal.reason).toMatchObject({ reason: 'deadline' })
  })

  it('a confirmed renewal moves the deadline from the instant before it was sent', () => {
    const { lock, clock } = setUp()
    expect(lock.signal.aborted).toBe(false)
    clock.advance(600)
    const startedAt = clock.now()
    clock.advance(300)
    lock.renewed(startedAt)
    expect(lock.remainingMs()).toBe(700)
    clock.advance(699)
    expect(lock.isHeld()).toBe(true)
    clock.advance(1)
    expect(lock.isHeld()).toBe(false)
  })

  it('a renewal that is confirmed after the deadline does not bring the lock back', () => {
    const { lock, clock } = setUp()
    clock.block(1_001)
    lock.renewed(clock.now())
    expect(lock.isHeld()).toBe(false)
  })

  it('refresh starts the ttl anew; a shorter one counts from the moment it was sent, also when its answer is lost', async () => {
    const { lock, clock, hooks } = setUp()
    clock.block(500)
    await lock.refresh()
    expect(lock.remainingMs()).toBe(1_000)
    hooks.refresh.mockRejectedValueOnce(new Error('connection reset'))
    await expect(lock.refresh(200)).rejects.toThrow('connection reset')
    expect(lock.remainingMs()).toBe(200)
    expect(lock.ttlMs).toBe(1_000)
    clock.block(200)
    expect(lock.isHeld()).toBe(false)
  })

  it('a shorter refresh brings the timer of a signal forward', async () => {
    const { lock, clock } = setUp()
    const aborted = vi.fn()
    lock.signal.addEventListener('abort', aborted)
    await lock.refresh(100)
    clock.advance(100)
    expect(aborted).toHaveBeenCalledOnce()
  })

  it('refresh of an infinite ttl with a finite one makes the timer that a signal needs', async () => {
    const { lock, clock } = setUp({ ttlMs: Number.POSITIVE_INFINITY })
    const aborted = vi.fn()
    lock.signal.addEventListener('abort', aborted)
    await lock.refresh(100)
    clock.advance(100)
    expect(aborted).toHaveBeenCalledOnce()
  })

  it('refreshes of one lock go out one after the other', async () => {
    const { lock, hooks } = setUp()
    const first = Promise.withResolvers<void>()
    hooks.refresh.mockReturnValueOnce(first.promise)
    const refreshes = [lock.refresh(200), lock.refresh(5_000)]
    await new Promise(setImmediate)
    expect(hooks.refresh).toHaveBeenCalledOnce()
    first.resolve()
    await Promise.all(refreshes)
    expect(hooks.refresh.mock.calls.map(([, ttlMs]) => ttlMs)).toEqual([200, 5_000])
    expect(lock.remainingMs()).toBe(5_000)
  })

  it('a renewal that was on its way together with a shorter refresh does not lengthen what we believe', async () => {
    const { lock, clock, hooks } = setUp()
    const renewalSentAt = clock.now()
    const answer = Promise.withResolvers<void>()
    hooks.refresh.mockReturnValueOnce(answer.promise)
    const refreshed = lock.refresh(200)
    lock.renewed(renewalSentAt)
    lock.renewed(clock.now())
    expect(lock.remainingMs()).toBe(200)
    clock.block(50)
    answer.resolve()
    await refreshed
    lock.renewed(renewalSentAt)
    expect(lock.remainingMs()).toBe(150)
    lock.renewed(clock.now())
    expect(lock.remainingMs()).toBe(200)
  })

  it('a refresh that the store refuses loses the lock', async () => {
    const { lock, hooks } = setUp()
    hooks.refresh.mockRejectedValueOnce(new LockNotHeldError({ key: 'a', operation: 'refresh' }))
    await expect(lock.refresh()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect(lock.signal.reason).toMatchObject({ reason: 'lease-expired' })
    await expect(lock.refresh()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect(hooks.refresh).toHaveBeenCalledOnce()
  })

  it('a refresh whose lock is lost meanwhile rejects, although the store has agreed', async () => {
    const { lock, clock, hooks } = setUp()
    hooks.refresh.mockImplementationOnce(async () => clock.block(1_000))
    await expect(lock.refresh()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect(lock.isHeld()).toBe(false)
  })

  it.each([99, Number.NaN, -1])('refresh refuses the ttl %s', async (ttlMs) => {
    const { lock, hooks } = setUp()
    await expect(lock.refresh(ttlMs)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    expect(hooks.refresh).not.toHaveBeenCalled()
  })

  it('release is asked of the store once; isHeld() is false before the answer', async () => {
    const { lock, hooks } = setUp()
    const answer = Promise.withResolvers<void>()
    hooks.release.mockReturnValueOnce(answer.promise)
    const released = lock.release()
    expect(lock.isHeld()).toBe(false)
    await expect(lock.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    const disposed = Promise.resolve(lock[Symbol.asyncDispose]())
    answer.resolve()
    await released
    await disposed
    await lock[Symbol.asyncDispose]()
    expect(hooks.release).toHaveBeenCalledOnce()
    expect(lock.signal.aborted).toBe(false)
  })

  it('dispose waits for a release that is under way', async () => {
    const { lock, hooks } = setUp()
    const answer = Promise.withResolvers<void>()
    hooks.release.mockReturnValueOnce(answer.promise)
    const released = lock.release()
    let disposed = false
    const disposing = Promise.resolve(lock[Symbol.asyncDispose]()).then(() => {
      disposed = true
    })
    await new Promise(setImmediate)
    expect(disposed).toBe(false)
    answer.resolve()
    await Promise.all([released, disposing])
    expect(disposed).toBe(true)
  })

  it('a release that the store refuses is a loss that listeners hear of', async () => {
    const { lock, hooks } = setUp()
    const { signal } = lock
    hooks.release.mockRejectedValueOnce(new LockNotHeldError({ key: 'a', operation: 'release' }))
    await expect(lock.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD', cause: { code: 'LOCK_LOST' } })
    expect(signal.aborted).toBe(true)
    expect(hooks.lost).toHaveBeenCalledOnce()
  })

  it('dispose is silent when the release fails, and tells the logger', async () => {
    const warn = vi.fn()
    const logger = { debug: vi.fn(), info: vi.fn(), warn, error: vi.fn() }
    const { lock, hooks } = setUp({}, { logger })
    hooks.release.mockRejectedValueOnce(new Error('connection reset'))
    await lock[Symbol.asyncDispose]()
    expect(warn).toHaveBeenCalledOnce()
    expect(lock.isHeld()).toBe(false)
  })

  it('a hook that throws instead of rejecting is a rejection', async () => {
    const { lock, hooks } = setUp()
    hooks.release.mockImplementationOnce(() => {
      throw new Error('at once')
    })
    await expect(lock.release()).rejects.toThrow('at once')
    await expect(lock.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
  })

  it('maxHoldMs ends the hold by itself, whatever is renewed', () => {
    const { lock, clock, hooks } = setUp({ ttlMs: Number.POSITIVE_INFINITY, maxHoldMs: 500 })
    clock.advance(499)
    lock.renewed(clock.now())
    expect(lock.remainingMs()).toBe(1)
    clock.advance(1)
    expect(hooks.lost).toHaveBeenCalledWith(lock, expect.objectContaining({ reason: 'max-hold' }))
  })

  it('release says how long the key has to stay taken', async () => {
    const early = setUp({ minHoldMs: 800 })
    early.clock.block(300)
    await early.lock.release()
    expect(early.hooks.release).toHaveBeenCalledWith(early.lock, 500)
    const late = setUp({ minHoldMs: 800 })
    late.clock.block(900)
    await late.lock.release()
    expect(late.hooks.release).toHaveBeenCalledWith(late.lock, 0)
  })

  it('counts minHoldMs from when the grant was here, and not from a request that waited for a connection', async () => {
    const { lock, clock, hooks } = setUp({ startedAt: -700, minHoldMs: 800, ttlMs: 10_000 })
    clock.block(300)
    await lock.release()
    expect(hooks.release).toHaveBeenCalledWith(lock, 500)
  })

  it('the holder hears of the loss before the store may give the key away', () => {
    const order: string[] = []
    const { lock, hooks } = setUp()
    hooks.lost.mockImplementation(() => order.push('store'))
    lock.signal.addEventListener('abort', () => order.push('holder'))
    lock.lose('session-ended', new Error('socket hang up'))
    expect(order).toEqual(['holder', 'store'])
    expect(lock.signal.reason).toMatchObject({ reason: 'session-ended', cause: { message: 'socket hang up' } })
  })

  it('a released lock cannot be lost', async () => {
    const { lock, clock, hooks } = setUp()
    await lock.release()
    clock.advance(5_000)
    lock.lose('session-ended')
    expect(hooks.lost).not.toHaveBeenCalled()
    expect(lock.signal.aborted).toBe(false)
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'LOCK_NOT_HELD' }))
  })
})
