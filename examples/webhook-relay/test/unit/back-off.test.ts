import fc from 'fast-check'
import { expect, it } from 'vitest'
import { backOffMs, longestDelayMs } from '../../src/back-off.ts'

it('doubles with each failure, with jitter, up to the longest wait', () => {
  expect(backOffMs(1, 0)).toBe(50)
  expect(backOffMs(3, 0)).toBe(200)
  expect(backOffMs(3, 1)).toBe(400)
  expect(backOffMs(1_000, 1)).toBe(longestDelayMs)
})

it('never comes before the time that the endpoint asked for, and never later than the longest wait', () => {
  const random = fc.double({ min: 0, max: 1, noNaN: true })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2_000 }), random, fc.nat(10_000), (failures, jitter, seconds) => {
      const waitMs = backOffMs(failures, jitter, String(seconds))
      expect(waitMs).toBeGreaterThanOrEqual(Math.min(seconds * 1_000, longestDelayMs))
      expect(waitMs).toBeLessThanOrEqual(longestDelayMs)
    }),
  )
})

it.each(['', '-1', '1.5', 'soon', 'Wed, 21 Oct 2026 07:28:00 GMT', '9'.repeat(400)])(
  'takes a Retry-After of %j for none',
  (nonsense) => {
    expect(backOffMs(1, 0, nonsense)).toBe(50)
  },
)
