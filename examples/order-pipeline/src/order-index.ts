import { type ChangeEvent, type ChangeHandler, createLeaderInput, type LeaderInput } from '@x/leader-input'
import type { Locker } from '@x/lock-core'
import type { Pool } from 'pg'
import type { Shop } from './shop.ts'

/** A band begins at its price and ends where the next one begins. */
export interface PriceBand {
  readonly from_cents: number
  readonly name: string
}

/** @throws {Error} where no band begins at or below the price: somebody has to add one */
export const bandOf = (bands: readonly PriceBand[], { id, cents }: { id: string; cents: number }): string => {
  const below = bands.filter((band) => band.from_cents <= cents).sort((a, b) => b.from_cents - a.from_cents)
  const [highest] = below
  if (!highest) throw new Error(`there is no price band for order ${id} of ${cents} cents`)
  return highest.name
}

type OrderChange = ChangeEvent<Shop, 'orders'>

/** The row of evidence for one change. */
const effect = ({ id, operation, before, after, idempotencyKey }: OrderChange) => ({
  order_id: id ?? '',
  revision: after ? after.revision : (before?.revision ?? 0) + 1,
  operation,
  idempotency_key: idempotencyKey,
})

/**
 * The second input on the log of the first: an index of orders by price band. It came when there were orders already, so
 * it reads them first; an order that it cannot place is parked, with all that happens to it later, until somebody has
 * mended the reason.
 */
export const createOrderIndexInput = (pool: Pool, locker: Locker): LeaderInput<Shop> =>
  createLeaderInput<Shop>({
    ...{ pool, locker, name: 'order-index', tables: ['orders'] },
    backfill: { chunkSize: 500 },
    onFailure: 'park',
    maxAttempts: 2,
  })

/** The handler of the index. `read` is an upsert, like `create` and `update`: only the last state of an order counts. */
export const keepIndex =
  (node: string): ChangeHandler<Shop> =>
  async (events, { trx, epoch }) => {
    const changes = events.filter((event) => event.table === 'orders')
    const bands = await trx.selectFrom('price_bands').selectAll().execute()
    const states = new Map(changes.map(({ id, after }) => [id ?? '', after]))
    const rows = changes.flatMap(({ after }) => (after ? [{ after, band: bandOf(bands, after) }] : []))
    const present = rows
      .filter(({ after }) => states.get(after.id) === after)
      .map(({ after: { id, customer, cents }, band }) => ({ order_id: id, customer, cents, band }))
    const gone = [...states].flatMap(([id, after]) => (after ? [] : [id]))
    await trx
      .insertInto('index_effects')
      .values(changes.map((change) => ({ ...effect(change), epoch, node })))
      .execute()
    if (gone.length > 0) await trx.deleteFrom('order_index').where('order_id', 'in', gone).execute()
    if (present.length === 0) return
    await trx
      .insertInto('order_index')
      .values(present)
      .onConflict((conflict) =>
        conflict.column('order_id').doUpdateSet((eb) => ({
          customer: eb.ref('excluded.customer'),
          cents: eb.ref('excluded.cents'),
          band: eb.ref('excluded.band'),
        })),
      )
      .execute()
  }
