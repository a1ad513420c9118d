import { describe, expect, it, vi } from 'vitest'
import { WaitLimit } from '../../src/adapter/index.ts'
import { LockTimeoutError } from '../../src/index.ts'
import { ManualClock } from '../manual-clock.ts'

describe('WaitLimit', () => {
  it('without timeout and signal never ends and makes no timer', () => {
    const clock = new ManualClock()
    const limit = new WaitLimit({ key: 'a' }, clock)
    limit.onOver(() => expect.fail('a wait without limit has ended'))
    clock.advance(1e9)
    expect(limit.over()).toBeUndefined()
    expect(limit.remainingMs()).toBe(Number.POSITIVE_INFINITY)
    expect(clock.pending).toBe(0)
  })

  it('ends at its timeout with LockTimeoutError', () => {
    const clock = new ManualClock()
    const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 100 }, clock)
    const over = vi.fn()
    limit.onOver(over)
    clock.advance(99)
    expect(over).not.toHaveBeenCalled()
    limit.throwIfOver()
    clock.advance(1)
    expect(over).toHaveBeenCalledExactlyOnceWith(
      expect.objectContaining({ code: 'LOCK_TIMEOUT', key: 'a', waitTimeoutMs: 100 }),
    )
    expect(() => limit.throwIfOver()).toThrow(expect.objectContaining({ code: 'LOCK_TIMEOUT' }))
  })

  it('ends with the reason of the signal, untouched, and forgets its timer', () => {
    const clock = new ManualClock()
    const controller = new AbortController()
    const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 100, signal: controller.signal }, clock)
    const over = vi.fn()
    limit.onOver(over)
    controller.abort('why not')
    clock.advance(1_000)
    expect(over).toHaveBeenCalledExactlyOnceWith('why not')
    expect(clock.pending).toBe(0)
  })

  it('ends when it is ended from outside, once', () => {
    const limit = new WaitLimit({ key: 'a' })
    const over = vi.fn()
    limit.onOver(over)
    const closed = new Error('closed')
    limit.end(closed)
    limit.end(new Error('again'))
    expect(over).toHaveBeenCalledExactlyOnceWith(closed)
    expect(limit.over()?.error).toBe(closed)
  })

  it('tells only those who still listen, and nobody after dispose', () => {
    const clock = new ManualClock()
    const controller = new AbortController()
    const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 100, signal: controller.signal }, clock)
    const heard = vi.fn()
    const stop = limit.onOver(heard)
    stop()
    limit[Symbol.dispose]()
    controller.abort()
    clock.advance(1_000)
    expect(heard).not.toHaveBeenCalled()
    expect(clock.pending).toBe(0)
  })

  it('keeps the process alive until its timeout: somebody waits for it', () => {
    const schedule = vi.fn((_fn: () => void, _ms: number, _options?: { readonly keepAlive?: boolean }) => ({
      cancel() {},
    }))
    const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 100 }, { now: () => 0, schedule })
    limit.onOver(() => {})
    expect(schedule).toHaveBeenCalledExactlyOnceWith(expect.any(Function), 100, { keepAlive: true })
  })

  it('a timer that fires early looks again', () => {
    const clock = new ManualClock()
    const early = {
      now: () => clock.now(),
      schedule: (fn: () => void, ms: number) => clock.schedule(fn, Math.max(1, ms - 2)),
    }
    const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 10 }, early)
    const over = vi.fn()
    limit.onOver(over)
    clock.advance(9)
    expect(over).not.toHaveBeenCalled()
    clock.advance(1)
    expect(over).toHaveBeenCalledOnce()
  })

  it('race() settles as the promise does, or when the wait is over', async () => {
    const controller = new AbortController()
    using limit = new WaitLimit({ key: 'a', signal: controller.signal })
    expect(await limit.race(Promise.resolve(7))).toBe(7)
    await expect(limit.race(Promise.reject(new Error('its own')))).rejects.toThrow('its own')
    const waiting = limit.race(new Promise(() => {}))
    controller.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    await expect(limit.race(Promise.resolve(7))).rejects.toThrow('enough')
    await expect(limit.race(Promise.reject(new Error('unheard')))).rejects.toThrow('enough')
  })

  it('blames no holder as long as the store has not answered', () => {
    const clock = new ManualClock()
    const timeoutOf = (prepare: (limit: WaitLimit) => void) => {
      const limit = new WaitLimit({ key: 'a', waitTimeoutMs: 100 }, clock)
      prepare(limit)
      clock.advance(100)
      return limit.over()?.error
    }
    expect(timeoutOf(() => {})).toMatchObject({ answered: true, message: expect.stringContaining('another holder') })
    const silent = timeoutOf((limit) => limit.asked())
    expect(silent).toMatchObject({ code: 'LOCK_TIMEOUT', answered: false })
    expect(silent).toMatchObject({ message: expect.stringContaining('had not answered') })
    expect(silent).not.toMatchObject({ message: expect.stringContaining('another holder') })
    const held = timeoutOf((limit) => {
      limit.asked()
      limit.answered()
      // Once seen, the holder is not forgotten.
      limit.asked()
    })
    expect(held).toMatchObject({ answered: true })
  })

  it('has a signal for a part of the wait, whose timeout is one of the whole', () => {
    const clock = new ManualClock()
    const limit = new WaitLimit({ key: 'a, b', waitTimeoutMs: 100 }, clock)
    expect(limit.signal.aborted).toBe(false)
    clock.advance(100)
    expect(limit.signal.reason).toMatchObject({ code: 'LOCK_TIMEOUT', key: 'a, b' })
    expect(new WaitLimit({ key: 'a', waitTimeoutMs: 0 }, clock).signal.aborted).toBe(true)
    const part = new LockTimeoutError({ key: 'b', waitTimeoutMs: 40, answered: false })
    expect(limit.errorOfPart(part)).toMatchObject({ key: 'a, b', waitTimeoutMs: 100, answered: false, cause: part })
    const other = new Error('another')
    expect(limit.errorOfPart(other)).toBe(other)
  })
})
