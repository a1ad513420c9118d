import { feedViolations } from '@x/testkit'
import { expect, it } from 'vitest'

const entry = (id: string, revision: number) => ({ table: 'orders', id, revision })
const changes = [entry('1', 1), entry('2', 1), entry('1', 2)]

it('passes a feed that did each change once, rows in order', () => {
  expect(feedViolations(changes, [entry('2', 1), entry('1', 1), entry('1', 2)])).toEqual([])
})

it.each([
  ['lost', [entry('1', 1), entry('2', 1)], 'orders 1 revision 2: committed, but not handled'],
  ['twice', [...changes, entry('2', 1)], 'orders 2 revision 1: handled twice'],
  ['inverted', [entry('1', 2), entry('1', 1), entry('2', 1)], 'orders 1 revision 1: handled after revision 2'],
  ['invented', [...changes, entry('3', 1)], 'orders 3 revision 1: handled, but never committed'],
])('finds a change that was %s', (_, effects, violation) => {
  expect(feedViolations(changes, effects)).toEqual([violation])
})
