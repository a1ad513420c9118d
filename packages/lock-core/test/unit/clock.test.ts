import { describe, expect, it } from 'vitest'
import { createMonotonicNow, monotonicNow, systemClock } from '../../src/adapter/clock.ts'
import { Deadline } from '../../src/adapter/index.ts'
import { ManualClock } from '../manual-clock.ts'

function machine() {
  const time = { monotonic: 5_000, wall: 1_700_000_000_000, uptime: 90_000, uptimeReads: 0 }
  const now = createMonotonicNow({
    monotonic: () => time.monotonic,
    wall: () => time.wall,
    uptime: () => {
      time.uptimeReads += 1
      // As coarse as /proc/uptime.
      return Math.floor(time.uptime / 10) * 10
    },
  })
  const run = (ms: number): void => {
    time.monotonic += ms
    time.wall += ms
    time.uptime += ms
  }
  const suspend = (ms: number): void => {
    time.wall += ms
    time.uptime += ms
  }
  return { time, now, run, suspend }
}

describe('createMonotonicNow', () => {
  it('goes with the monotonic clock and reads the uptime once', () => {
    const { now, run, time } = machine()
    const start = now()
    for (let step = 0; step < 1_000; step += 1) {
      run(7)
      now()
    }
    expect(now() - start).toBe(7_000)
    expect(time.uptimeReads).toBe(1)
  })

  it('counts the time of a suspended machine, however often it is suspended', () => {
    const { now, run, suspend } = machine()
    const start = now()
    suspend(60_000)
    expect(now() - start).toBe(60_000)
    run(100)
    suspend(3_600_000)
    run(5)
    expect(Math.abs(now() - start - 3_660_105)).toBeLessThanOrEqual(10)
  })

  it('is not moved by steps of the wall clock in either direction', () => {
    const { now, run, time } = machine()
    const start = now()
    for (const step of [3_600_000, -7_200_000, 50, -86_400_000]) {
      time.wall += step
      run(10)
      now()
    }
    expect(now() - start).toBe(40)
  })

  it('never steps back', () => {
    const { now, run, suspend, time } = machine()
    let last = now()
    for (const change of [
      () => run(1),
      () => suspend(900),
      () => (time.wall -= 5_000),
      () => run(1),
      () => suspend(400),
    ]) {
      change()
      expect(now()).toBeGreaterThanOrEqual(last)
      last = now()
    }
  })
})

describe('systemClock', () => {
  it('fires after the delay, and not when cancelled', async () => {
    const startedAt = monotonicNow()
    const cancelled = systemClock.schedule(() => expect.fail('a cancelled timer has fired'), 5)
    cancelled.cancel()
    await new Promise<void>((resolve) => systemClock.schedule(resolve, 20, { keepAlive: true }))
    expect(monotonicNow() - startedAt).toBeGreaterThanOrEqual(19)
  })

  it('waits for delays that setTimeout cannot take', async () => {
    const early = systemClock.schedule(() => expect.fail('a timer of 30 days has fired'), 30 * 86_400_000)
    await new Promise<void>((resolve) => systemClock.schedule(resolve, 10, { keepAlive: true }))
    early.cancel()
  })
})

describe('Deadline', () => {
  it('passes at its instant, counted from when it was started', () => {
    const clock = new ManualClock()
    const startedAt = clock.now()
    clock.advance(400)
    const deadline = Deadline.after(1_000, startedAt, clock)
    expect(deadline.remainingMs()).toBe(600)
    clock.advance(599)
    expect(deadline.hasPassed()).toBe(false)
    clock.advance(1)
    expect(deadline.hasPassed()).toBe(true)
    expect(deadline.remainingMs()).toBe(0)
  })

  it('never passes when there is none', () => {
    const clock = new ManualClock()
    const deadline = Deadline.never(clock)
    clock.advance(1e12)
    expect(deadline.hasPassed()).toBe(false)
    expect(deadline.remainingMs()).toBe(Number.POSITIVE_INFINITY)
    expect(Deadline.after(Number.POSITIVE_INFINITY, undefined, clock).hasPassed()).toBe(false)
  })
})
