import { randomSource } from '@x/testkit'
import { expect, it } from 'vitest'

it('repeats itself for a seed, and draws independently in forks', () => {
  const draw = (seed: number): number[] => Array.from({ length: 5 }, randomSource(seed).next)
  expect(draw(42)).toEqual(draw(42))
  expect(draw(42)).not.toEqual(draw(43))
  const root = randomSource(1)
  const before = root.fork('a').next()
  root.next()
  expect(root.fork('a').next()).toBe(before)
  expect(root.fork('b').next()).not.toBe(before)
})

it('keeps whole numbers within their bounds and reaches both', () => {
  const random = randomSource(3)
  const seen = new Set(Array.from({ length: 500 }, () => random.int(2, 5)))
  expect([...seen].sort()).toEqual([2, 3, 4, 5])
})

it('shuffles without losing anything', () => {
  const items = [1, 2, 3, 4, 5, 6, 7]
  const shuffled = randomSource(5).shuffle(items)
  expect(shuffled).not.toEqual(items)
  expect([...shuffled].sort()).toEqual(items)
})
