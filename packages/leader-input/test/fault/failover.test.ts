import { createDatabase, eventually, openDatabase, primaryWithStandby } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { expect, it } from 'vitest'
import type { ChangeEvent } from '../../src/index.ts'
import { type Shop, shopInput, shopTemplate } from '../support/shop.ts'

// The servers are this test's own; the file's database stands for the check of what is left behind.
useDatabase()

/** Handles the changes of orders elsewhere: what it had from the old primary is known here and nowhere in the database. */
const consume = async (pool: Pool) => {
  const input = shopInput(pool, { name: 'failover' })
  await input.install()
  const events: ChangeEvent<Shop>[] = []
  const stop = new AbortController()
  const running = input.run((batch) => void events.push(...batch), { signal: stop.signal })
  return {
    events,
    stop: async () => {
      stop.abort()
      await running
      await input.close()
    },
  }
}
const customers = (events: readonly ChangeEvent<Shop>[]): unknown[] =>
  events.map(({ after }) => after && 'customer' in after && after.customer)
const insert = (pool: Pool, customer: string, rows = 1) =>
  pool.query('INSERT INTO orders (customer, cents) SELECT $1, n FROM generate_series(1, $2::int) n', [customer, rows])
/** A standby's sequence is up to 32 numbers ahead of what it has seen: only of so many more are some drawn again. */
const lost = 100

it('goes on after the promotion of a standby that missed the last commits: what is there comes once or under its old key, what is new has a key that no lost change had', async () => {
  await using servers = await primaryWithStandby()
  const database = await createDatabase(servers.primary.url, { label: 'failover', template: shopTemplate })
  const pool = database.pool()
  const before = await consume(pool)
  await insert(pool, 'on both')
  await eventually(() => before.events.length === 1, { deadlineMs: 60_000 })
  await insert(pool, 'on both, handled on the old one only')
  await servers.caughtUp()
  servers.replication.refuse()
  servers.replication.cut()
  await insert(pool, 'on the old one only', lost)
  await eventually(() => before.events.length === 2 + lost, { deadlineMs: 60_000 })
  await before.stop()
  await database.disconnect()
  await servers.primary.halt('immediate')
  await servers.promote()

  const promoted = openDatabase(servers.standby.url, database.name)
  const there = promoted.pool()
  const after = await consume(there)
  await insert(there, 'on the new one', lost)
  const isNew = (customer: unknown): boolean => customer === 'on the new one'
  await eventually(() => customers(after.events).filter(isNew).length === lost, { deadlineMs: 60_000 })
  await after.stop()
  // What had been handled on the old primary, and whose acknowledgement was lost with it, may come again: under its key.
  const known = new Map(before.events.map((event) => [event.idempotencyKey, event]))
  const [again, fresh] = [true, false].map((isKnown) =>
    after.events.filter(({ idempotencyKey }) => known.has(idempotencyKey) === isKnown),
  )
  expect(customers(fresh ?? [])).toEqual(Array.from({ length: lost }, () => 'on the new one'))
  const numbers = new Set(before.events.map(({ seq }) => seq))
  expect((fresh ?? []).some(({ seq }) => numbers.has(seq))).toBe(true)
  for (const event of again ?? []) expect(event.after).toEqual(known.get(event.idempotencyKey)?.after)
  expect(customers(after.events)).not.toContain('on the old one only')
  await promoted.disconnect()
}, 600_000)
