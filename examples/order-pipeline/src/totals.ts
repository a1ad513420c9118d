import type { ChangeEvent, ChangeHandler } from '@x/leader-input'
import type { Shop } from './shop.ts'

/** What a batch adds to the totals of one customer. */
export interface Delta {
  readonly customer: number
  readonly orders: number
  readonly cents: number
}

type OrderChange = ChangeEvent<Shop, 'orders'>

/** What these changes of orders add up to, per customer, in the order of customers. */
export const deltas = (changes: readonly Pick<OrderChange, 'before' | 'after'>[]): readonly Delta[] => {
  const sums = new Map<number, Delta>()
  const add = (customer: number, orders: number, cents: number): void => {
    const sum = sums.get(customer) ?? { customer, orders: 0, cents: 0 }
    sums.set(customer, { customer, orders: sum.orders + orders, cents: sum.cents + cents })
  }
  for (const { before, after } of changes) {
    if (before) add(before.customer, -1, -before.cents)
    if (after) add(after.customer, 1, after.cents)
  }
  return [...sums.values()].sort((a, b) => a.customer - b.customer)
}

/** The row of evidence for one change: what `journal` says of it, told from the side of the feed. */
const effect = ({ before, after, operation, idempotencyKey, location }: OrderChange) => {
  const row = after ?? before
  if (!row) throw new Error(`expected a row in each change of ${location}, got a ${operation} without one`)
  return {
    order_id: row.id,
    // A delete has no revision of its own: it is the one after the last.
    revision: after ? row.revision : row.revision + 1,
    operation,
    customer: row.customer,
    cents: row.cents,
    idempotency_key: idempotencyKey,
  }
}

/**
 * The handler of the pipeline. Everything it writes goes through `trx`, the transaction that also moves the cursor of the
 * feed: both are committed, once, or neither is, whoever is killed and whenever.
 */
export const keepTotals =
  (node: string): ChangeHandler<Shop> =>
  async (events, { trx, epoch }) => {
    const changes = events.filter((event) => event.table === 'orders')
    await trx
      .insertInto('effects')
      .values(changes.map((change) => ({ ...effect(change), epoch, node })))
      .execute()
    await trx
      .insertInto('customer_totals')
      .values([...deltas(changes)])
      .onConflict((conflict) =>
        conflict.column('customer').doUpdateSet((eb) => ({
          orders: eb('customer_totals.orders', '+', eb.ref('excluded.orders')),
          cents: eb('customer_totals.cents', '+', eb.ref('excluded.cents')),
        })),
      )
      .execute()
    await trx
      .insertInto('terms')
      .values({ epoch, node })
      .onConflict((conflict) => conflict.doNothing())
      .execute()
  }
