import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { collect, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('delivers creates, updates, deletes and a truncate of committed transactions, in order, with both rows', async () => {
  const pool = database.pool()
  await using input = shopInput(pool)
  await input.install()
  const { events, stop } = collect(input)
  await pool.query(`INSERT INTO orders (customer, cents) VALUES ('ada', 100), ('bob', 200)`)
  await pool.query("BEGIN; INSERT INTO orders (customer, cents) VALUES ('eve', 1); ROLLBACK")
  await pool.query('UPDATE orders SET cents = 150 WHERE id = 1')
  await pool.query('UPDATE orders SET id = 7 WHERE id = 2')
  await pool.query('DELETE FROM orders WHERE id = 7')
  await pool.query('TRUNCATE orders')
  await eventually(() => events.length === 6)
  await stop()
  expect(
    events.map(({ operation, id, before, after, oldKey, changed }) => ({
      operation,
      id,
      before,
      after,
      oldKey,
      changed,
    })),
  ).toEqual([
    {
      operation: 'create',
      id: '1',
      before: null,
      after: { id: 1, customer: 'ada', cents: 100 },
      oldKey: null,
      changed: ['id', 'customer', 'cents'],
    },
    {
      operation: 'create',
      id: '2',
      before: null,
      after: { id: 2, customer: 'bob', cents: 200 },
      oldKey: null,
      changed: ['id', 'customer', 'cents'],
    },
    {
      operation: 'update',
      id: '1',
      before: { id: 1, customer: 'ada', cents: 100 },
      after: { id: 1, customer: 'ada', cents: 150 },
      oldKey: null,
      changed: ['cents'],
    },
    {
      operation: 'update',
      id: '7',
      before: { id: 2, customer: 'bob', cents: 200 },
      after: { id: 7, customer: 'bob', cents: 200 },
      oldKey: { id: 2 },
      changed: ['id'],
    },
    {
      operation: 'delete',
      id: '7',
      before: { id: 7, customer: 'bob', cents: 200 },
      after: null,
      oldKey: null,
      changed: ['id', 'customer', 'cents'],
    },
    { operation: 'truncate', id: null, before: null, after: null, oldKey: null, changed: [] },
  ])
})

it('writes effects in the transaction of the cursor, by Kysely and by plain SQL', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'effects' })
  await input.install()
  const stop = new AbortController()
  const running = input.run(
    async (events, { trx, client, epoch }) => {
      for (const event of events) {
        await trx
          .insertInto('effects')
          .values({ key: event.idempotencyKey, id: event.id, operation: event.operation, revision: null })
          .execute()
      }
      await client.query('UPDATE effects SET revision = $1', [Number(epoch)])
    },
    { signal: stop.signal },
  )
  await pool.query(`INSERT INTO orders (customer, cents) SELECT 'c', n FROM generate_series(1, 2000) n`)
  // Two thousand statements, one after the other.
  await eventually(async () => (await pool.query('SELECT count(*)::int AS n FROM effects')).rows[0].n === 2000, {
    deadlineMs: 120_000,
  })
  expect(input.health()).toMatchObject({ status: 'leading', epoch: 1n, lastError: null, drift: [] })
  expect(await input.lag()).toMatchObject({ events: 0, oldestMs: 0, parkedKeys: 0, gap: null, drift: [] })
  stop.abort()
  await running
  expect(input.health().status).toBe('stopped')
})

it('reads nothing in a transaction that somebody has left open in the pool', async () => {
  const one = database.pool({ max: 1 })
  await using input = shopInput(one, { name: 'left-open' })
  await input.install()
  const leaked = await one.connect()
  await leaked.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  await leaked.query('SELECT FROM orders')
  leaked.release()
  await database.pool().query("INSERT INTO orders (customer, cents) VALUES ('later', 1)")
  expect((await input.lag()).events).toBe(1)
})

it('says at once that the login is refused, and waits for it once it has been let in', async () => {
  const pool = database.pool()
  await using installer = shopInput(pool, { name: 'admitted' })
  await installer.install()
  const role = `refused_${process.pid}`
  // A password would be right, whatever it is, where the server trusts everybody.
  await pool.query(`CREATE ROLE ${role} NOLOGIN SUPERUSER PASSWORD 'right'`)
  const url = Object.assign(new URL(database.url), { username: role, password: 'right' })
  const own = new Pool({ connectionString: url.href })
  own.on('error', () => {})
  try {
    await using input = shopInput(own, { name: 'admitted' })
    await expect(input.run(() => {})).rejects.toMatchObject({
      code: 'CONNECTION',
      message: expect.stringContaining('check user and password'),
    })
    await pool.query(`ALTER ROLE ${role} LOGIN`)
    const { events, stop } = collect(input)
    await eventually(() => input.health().status === 'leading')
    await pool.query(`ALTER ROLE ${role} NOLOGIN`)
    await pool.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role])
    await eventually(() => String(input.health().lastError).includes('check user and password'))
    await pool.query(`ALTER ROLE ${role} LOGIN`)
    await pool.query(`INSERT INTO orders (customer, cents) VALUES ('ada', 100)`)
    await eventually(() => events.length === 1)
    await stop()
  } finally {
    await own.end()
    await pool.query(`DROP ROLE ${role}`)
  }
})
