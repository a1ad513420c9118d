import { setTimeout as delay } from 'node:timers/promises'
import { createMemoryLocker } from '@x/lock-core/memory'
import type { Pool } from 'pg'
import { createOrderIndexInput } from './order-index.ts'
import type { Child } from './processes.ts'
import { until } from './until.ts'

/** What the story of the second input needs of the run around it. */
export interface IndexStage {
  readonly pool: Pool
  /** Aborts when the run is given up. */
  readonly abandon: AbortSignal
  /** Aborts when the run comes to its end: the rest of the story is told without its pauses. */
  readonly hurry: AbortSignal
  startIndexer(): Child
  log(text: string): void
}

/** Without any there is nothing to read, and nothing that shows when the index is there. */
const enoughOrders = 20
const newestOrderSql = 'SELECT coalesce(max(id), 0)::int AS id FROM orders'
const missingSql = `
  SELECT count(*)::int AS missing
  FROM orders o
  WHERE o.id <= $1 AND NOT EXISTS (SELECT FROM index_effects e WHERE e.order_id = o.id)`
// An order of the ordinary kind, with its entry in the journal; only its price is one that nobody had thought of.
const poisonSql = `
  WITH placed AS (INSERT INTO orders (customer, cents) VALUES (0, 0) RETURNING id, revision, customer, cents),
       noted AS (INSERT INTO journal (order_id, revision, operation, customer, cents)
                 SELECT id, revision, 'create', customer, cents FROM placed)
  INSERT INTO poison (order_id) SELECT id FROM placed RETURNING order_id::text AS id`
const handledBehindSql = `
  SELECT (SELECT node FROM index_effects ORDER BY position DESC LIMIT 1) AS node,
         EXISTS (SELECT FROM index_effects WHERE order_id > $1 AND node <> ALL ($2)) AS behind`

/**
 * A second service comes while the first is at work: it reads the orders that are there, follows the changes on the same
 * log, stumbles over one order and goes on without it, loses its leader, and gets the order once the reason is mended.
 */
export const tellIndexStory = async (stage: IndexStage, periodMs: number): Promise<void> => {
  const { pool, abandon, hurry, startIndexer, log } = stage
  const start = performance.now()
  const at = async (share: number): Promise<void> => {
    const dueMs = start + share * periodMs - performance.now()
    await delay(Math.max(0, dueMs), undefined, { signal: hurry }).catch(() => {})
    abandon.throwIfAborted()
  }
  // Any process may ask: the leader, whoever that is, does what was asked for.
  await using input = createOrderIndexInput(pool, createMemoryLocker())

  await at(0.2)
  const there = await until('orders for the index to read', abandon, async () => {
    const { rows } = await pool.query<{ id: number }>(newestOrderSql)
    const id = rows[0]?.id ?? 0
    return id >= enoughOrders ? id : null
  })
  log('A second service is deployed: an index of the orders, on the log that is there already')
  const deployedAt = performance.now()
  const indexers = [startIndexer(), startIndexer()]
  await until('the index to read what is there', abandon, async () => {
    const { rows } = await pool.query<{ missing: number }>(missingSql, [there])
    return rows[0]?.missing === 0 ? true : null
  })
  const { rows: read } = await pool.query<{ orders: number }>(
    `SELECT count(*)::int AS orders FROM index_effects WHERE operation = 'read'`,
  )
  const tookMs = performance.now() - deployedAt
  log(`The index has read ${read[0]?.orders} orders while they were written to, ${(tookMs / 1_000).toFixed(1)} s after`)

  await at(0.5)
  const { rows: poison } = await pool.query<{ id: string }>(poisonSql)
  const id = poison[0]?.id ?? ''
  log(`Order ${id} has a price that the index knows no band for: its handler fails`)
  await until('the order to be parked', abandon, async () => ((await input.lag()).parkedKeys > 0 ? true : null))
  const leader = await until('the index to go on without the order', abandon, async () => {
    const { rows } = await pool.query<{ node: string; behind: boolean }>(handledBehindSql, [id, []])
    return rows[0]?.behind ? rows[0].node : null
  })
  log(`${leader} has parked order ${id} and goes on with the others; SIGKILL to ${leader}`)
  await indexers.find(({ name }) => name === leader)?.kill()
  startIndexer()
  await until('a successor of the index', abandon, async () => {
    const { rows } = await pool.query<{ behind: boolean }>(handledBehindSql, [id, [leader]])
    return rows[0]?.behind ? true : null
  })
  const { parkedKeys } = await input.lag()
  log(`Its successor goes on as well, and keeps ${parkedKeys === 1 ? 'the order' : `${parkedKeys} orders`} parked`)

  await at(0.8)
  await pool.query(`INSERT INTO price_bands (from_cents, name) VALUES (0, 'free')`)
  const { replayed, stillParked } = await input.replayParked()
  log(`The band is added and the order replayed: ${replayed} changes in order, ${stillParked} still parked`)
}
