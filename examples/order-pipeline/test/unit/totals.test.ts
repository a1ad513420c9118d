import fc from 'fast-check'
import { expect, it } from 'vitest'
import { deltas } from '../../src/totals.ts'

const order = (customer: number, cents: number) => ({ id: '1', customer, cents, revision: 1 })

it('adds up what a batch does to each customer, in the order of customers', () => {
  const changes = [
    { before: null, after: order(9, 500) },
    { before: null, after: order(2, 100) },
    { before: order(2, 100), after: order(2, 150) },
    { before: order(9, 500), after: order(4, 700) }, // moves to another customer
    { before: order(2, 150), after: null },
  ] as const
  expect(deltas(changes)).toEqual([
    { customer: 2, orders: 0, cents: 0 },
    { customer: 4, orders: 1, cents: 700 },
    { customer: 9, orders: 0, cents: 0 },
  ])
})

it('gives the same totals however the changes are cut into batches', () => {
  const row = fc.option(fc.record({ customer: fc.nat(5), cents: fc.nat(1_000) }), { nil: null })
  const change = fc
    .tuple(row, row)
    .map(([before, after]) =>
      after
        ? { before: before && order(before.customer, before.cents), after: order(after.customer, after.cents) }
        : { before: before && order(before.customer, before.cents), after: null },
    )
  fc.assert(
    fc.property(fc.array(change), fc.nat(), (changes, at) => {
      const cut = changes.length === 0 ? 0 : at % changes.length
      const parts = [...deltas(changes.slice(0, cut)), ...deltas(changes.slice(cut))]
      for (const { customer, orders, cents } of deltas(changes)) {
        const same = parts.filter((part) => part.customer === customer)
        expect(same.reduce((sum, part) => sum + part.orders, 0)).toBe(orders)
        expect(same.reduce((sum, part) => sum + part.cents, 0)).toBe(cents)
      }
    }),
  )
})
