import { expect, it } from 'vitest'
import { report } from '../../src/report.ts'

const took = (sale: string, revision: number, key = `${sale}/${revision}`) => ({
  sale,
  revision,
  key,
  relay: 'r',
  epoch: 1n,
})
const changes = [
  { sale: '1', revision: 1 },
  { sale: '2', revision: 1 },
  { sale: '1', revision: 2 },
]

it('passes what came at least once, under one key, in the order of each sale', () => {
  const taken = [took('2', 1), took('1', 1), took('1', 1), took('1', 2), took('1', 1)]
  expect(report(changes, taken)).toEqual({ changes: 3, taken: 5, duplicates: 2, violations: [] })
})

it.each([
  ['a change that never came', [took('1', 1), took('1', 2)], 'sale 2, revision 1 never came'],
  [
    'a change that was rolled back',
    [took('1', 1), took('2', 1), took('1', 2), took('3', 1)],
    'sale 3, revision 1 came and was never committed',
  ],
  [
    'a second delivery under another key',
    [took('1', 1), took('2', 1), took('1', 2), took('1', 1, 'other')],
    'sale 1, revision 1 came again with another key: 1/1, then other',
  ],
  [
    'one key for two changes',
    [took('1', 1, 'k'), took('2', 1, 'k'), took('1', 2)],
    'key k stands for sale 1, revision 1 and for sale 2, revision 1',
  ],
  [
    'changes of a sale out of order',
    [took('1', 2), took('1', 1), took('2', 1)],
    'sale 1, revision 1 came after revision 2',
  ],
])('finds %s', (_, taken, violation) => {
  expect(report(changes, taken).violations).toEqual([violation])
})
