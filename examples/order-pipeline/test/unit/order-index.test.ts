import { expect, it } from 'vitest'
import { bandOf } from '../../src/order-index.ts'

const bands = [
  { from_cents: 1_000, name: 'medium' },
  { from_cents: 1, name: 'small' },
]

it('puts an order into the highest band that begins at or below its price', () => {
  expect([1, 999, 1_000, 5_000].map((cents) => bandOf(bands, { id: '7', cents }))).toEqual([
    ...['small', 'small', 'medium', 'medium'],
  ])
})

it('fails on a price without a band, and names the order', () => {
  expect(() => bandOf(bands, { id: '7', cents: 0 })).toThrow('there is no price band for order 7 of 0 cents')
})
