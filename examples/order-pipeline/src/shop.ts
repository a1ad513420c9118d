import type { Generated } from 'kysely'

/** The tables of `schema.sql`, as Kysely and the change feed see them. `bigint` arrives as a string, so no digit is lost. */
export interface Shop {
  orders: { id: Generated<string>; customer: number; cents: number; revision: Generated<number> }
  customer_totals: { customer: number; orders: string | number; cents: string | number }
  effects: {
    position: Generated<string>
    order_id: string
    revision: number
    operation: string
    customer: number
    cents: number
    idempotency_key: string
    epoch: bigint
    node: string
  }
  price_bands: { from_cents: number; name: string }
  order_index: { order_id: string; customer: number; cents: number; band: string }
  index_effects: {
    position: Generated<string>
    order_id: string
    revision: number
    operation: string
    idempotency_key: string
    epoch: bigint
    node: string
  }
  terms: { epoch: bigint; node: string; first_batch_at: Generated<Date> }
  job_runs: {
    id: Generated<string>
    node: string
    token: bigint
    started_at: Generated<Date>
    seen_at: Generated<Date>
    ended_at: Date | null
    orders: string | null
  }
}
