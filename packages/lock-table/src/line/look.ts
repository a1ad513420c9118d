import { plainArray, textArray } from '../array-literal.ts'
import type { LockStore } from '../store.ts'
import type { Waiter } from './waiter.ts'

/** What a look tells of one ticket: its position in the batch, the grant if there is one, and how it stands in its line. */
export type LookRow = readonly [
  position: string,
  token: string | null,
  leaseMs: string | null,
  acquiredAtMs: string | null,
  inLine: string,
  due: string,
  freeInMs: string | null,
]

/** Reads what became of tickets; of one that waits alone for its key, as most do, with a statement that is quickly set up. */
export const look = (
  store: LockStore,
  batch: readonly Waiter[],
  clockMarginMs: number,
): Promise<readonly LookRow[]> => {
  const limits = { bypassPolicy: true }
  const [alone] = batch
  if (alone !== undefined && batch.length === 1 && alone.mode === 'exclusive') {
    const { key, ticket, owner } = alone
    return store.query<LookRow>(store.statements.lookOne, [key, ticket, owner, clockMarginMs], limits)
  }
  const values = [
    textArray(batch.map((waiter) => waiter.key)),
    plainArray(batch.map((waiter) => BigInt(waiter.ticket))),
    textArray(batch.map((waiter) => waiter.owner)),
    plainArray(batch.map((waiter) => waiter.mode === 'shared')),
    clockMarginMs,
  ]
  return store.query<LookRow>(store.statements.look, values, limits)
}
