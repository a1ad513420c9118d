import { expect, test } from 'vitest'
import { evaluate, spread } from '../../src/ratio.ts'

test('a ratio is taken within a round, so that a slow spell of the machine cancels out', () => {
  const rounds = new Map([
    ['ours', [{ p50Us: 11 }, { p50Us: 110 }, { p50Us: 12 }]],
    ['floor', [{ p50Us: 10 }, { p50Us: 100 }, { p50Us: 10 }]],
  ])
  const result = evaluate({ of: 'ours', against: 'floor', figure: 'p50Us', atMost: 1.15 }, rounds)
  expect(result.median).toBeCloseTo(1.1)
  expect(result.high).toBeCloseTo(1.2)
  expect(result.met).toBe(true)
})

test('a target over a figure that nobody measured is missed, not met', () => {
  expect(evaluate({ of: 'ours', figure: 'p50Us', atMost: 1 }, new Map()).met).toBe(false)
  expect(
    evaluate({ of: 'ours', against: 'peer', figure: 'p50Us', atLeast: 1 }, new Map([['ours', [{ p50Us: 1 }]]])).met,
  ).toBe(false)
})

test('a bound that is passed is missed', () => {
  const rounds = new Map([['ours', [{ perSecond: 9 }, { perSecond: 9 }]]])
  expect(evaluate({ of: 'ours', figure: 'perSecond', atLeast: 10 }, rounds).met).toBe(false)
  expect(evaluate({ of: 'ours', figure: 'perSecond', atLeast: 8 }, rounds).met).toBe(true)
})

test('a spread names the middle and both ends', () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, low: 1, high: 3 })
})
