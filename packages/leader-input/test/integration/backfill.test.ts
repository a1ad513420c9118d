import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { expect, it } from 'vitest'
import type { ChangeEvent, HandlerContext, JsonRow } from '../../src/index.ts'
import { collect, type Shop, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

/** A projection of orders kept by upserts and deletes, as the documentation of `read` says. */
const project = `
  CREATE TABLE IF NOT EXISTS projection (id int PRIMARY KEY, customer text, cents int);
  TRUNCATE projection`
const difference = async (pool: Pool): Promise<unknown[]> =>
  (
    await pool.query(
      'SELECT * FROM (SELECT id, customer, cents FROM orders) o FULL JOIN projection p USING (id) WHERE (o.customer, o.cents) IS DISTINCT FROM (p.customer, p.cents) LIMIT 5',
    )
  ).rows

/** Applies events in order, as one statement a kind in a row would do: the last state of each key wins. */
const apply = async (
  events: readonly ChangeEvent<Shop, 'orders'>[],
  client: HandlerContext<Shop>['client'],
): Promise<void> => {
  const states = new Map<number, JsonRow<Shop['orders']> | null>()
  for (const { operation, key, oldKey, after } of events) {
    if (oldKey !== null) states.set(Number(oldKey.id), null)
    states.set(Number(key?.id), operation === 'delete' ? null : (after as never))
  }
  await client.query('DELETE FROM projection WHERE id = ANY ($1)', [[...states.keys()]])
  const rows = [...states.values()].filter((row) => row !== null)
  await client.query('INSERT INTO projection SELECT * FROM jsonb_populate_recordset(NULL::projection, $1)', [
    JSON.stringify(rows),
  ])
}

it('reads a table that is being written to, in chunks, and goes on where a crash left it', {
  timeout: 600_000,
}, async () => {
  const pool = database.pool()
  await pool.query(project)
  const rows = process.env.COORDINATION_LONG === '1' ? 1_000_000 : 50_000
  await pool.query(`INSERT INTO orders (customer, cents) SELECT 'before ' || n, n FROM generate_series(1, $1) n`, [
    rows,
  ])
  const make = () => shopInput(pool, { name: 'backfill', backfill: { chunkSize: 1_500 }, batchSize: 1_000 })
  await using input = make()
  await input.install()
  let writing = true
  const writer = (async () => {
    const client = await database.client()
    for (let i = 1; writing; i++) {
      const id = 1 + ((i * 7919) % rows)
      const change = [
        'DELETE FROM orders WHERE id = $1',
        'UPDATE orders SET id = -id WHERE id = $1',
        'UPDATE orders SET cents = cents + 1 WHERE id = $1',
      ][i % 3]
      await client.query(change ?? '', [id])
      if (i % 7 === 0) await client.query(`INSERT INTO orders (customer, cents) VALUES ('during', $1)`, [i])
    }
    await client.end()
  })()
  const seen = { reads: 0, batches: 0, crashes: 0 }
  const keys = new Set<string>()
  const isDone = async (): Promise<boolean> =>
    (await pool.query(`SELECT backfill IS NULL AS done FROM coordination.cursors WHERE name = 'backfill'`)).rows[0].done
  while (!(await isDone())) {
    const replica = make()
    const stop = new AbortController()
    const running = replica.run(
      async (events, { client }) => {
        seen.batches += 1
        await apply(events as readonly ChangeEvent<Shop, 'orders'>[], client)
        // As if killed before the commit.
        if (seen.batches % 20 === 0) {
          seen.crashes += 1
          stop.abort()
          throw new Error('crash')
        }
        for (const { operation, idempotencyKey } of events) {
          if (operation !== 'read') continue
          seen.reads += 1
          keys.add(idempotencyKey)
        }
      },
      { signal: stop.signal },
    )
    await eventually(async () => stop.signal.aborted || (await isDone()), { deadlineMs: 500_000 })
    stop.abort()
    await running
    await replica.close()
  }
  writing = false
  await writer
  const stop = new AbortController()
  const running = input.run((events, { client }) => apply(events as readonly ChangeEvent<Shop, 'orders'>[], client), {
    signal: stop.signal,
  })
  await eventually(async () => (await input.lag()).events === 0)
  stop.abort()
  await running
  expect(await difference(pool)).toEqual([])
  expect(seen.crashes).toBeGreaterThan(1)
  expect(keys.size).toBe(seen.reads)
})

it('refuses to read where a function of the owner would run with its rights', async () => {
  const pool = database.pool()
  await pool.query(`
    CREATE TYPE mood AS ENUM ('good');
    CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql AS $$ SELECT '"pwned"'::json $$;
    CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
    CREATE TABLE moods (id int PRIMARY KEY, m mood)`)
  // biome-ignore lint/suspicious/noExplicitAny: a table that is not in the type
  await using input = shopInput(pool, { name: 'moods', tables: ['moods'] as any, backfill: true })
  await expect(input.install()).rejects.toThrow(/column m has a cast to json/)
})

/** Reads a table that is not in the type, and gives the ids of what came. */
const readWhole = async (pool: Pool, table: string, options: object): Promise<string[]> => {
  // biome-ignore lint/suspicious/noExplicitAny: a table that is not in the type
  await using input = shopInput(pool, { name: `read-${table}`, tables: [table] as any, backfill: true, ...options })
  await input.install()
  const { events, stop } = collect(input)
  await eventually(
    async () =>
      (await pool.query('SELECT backfill IS NULL AS done FROM coordination.cursors WHERE name = $1', [input.name]))
        .rows[0].done,
  )
  await stop()
  return events.map((event) => event.id ?? 'no id')
}

it('reads the whole of a table without a key, however small a batch may be', async () => {
  const pool = database.pool()
  await pool.query(
    `CREATE TABLE keyless (body text); INSERT INTO keyless SELECT repeat('x', 500) FROM generate_series(1, 100)`,
  )
  expect(await readWhole(pool, 'keyless', { maxBatchBytes: 10_000 })).toHaveLength(100)
})

it('goes on behind keys of padded characters, bits, enums and domains', async () => {
  const pool = database.pool()
  await pool.query(`
    CREATE SCHEMA elsewhere; CREATE TYPE elsewhere."Level" AS ENUM ('low', 'mid', 'high'); CREATE DOMAIN short AS char(4);
    CREATE TABLE padded (id char(4) PRIMARY KEY); INSERT INTO padded VALUES ('a1'), ('a2'), ('a3');
    CREATE TABLE bits (id bit(3) PRIMARY KEY); INSERT INTO bits VALUES ('100'), ('101'), ('110');
    CREATE TABLE levels (id elsewhere."Level" PRIMARY KEY); INSERT INTO levels VALUES ('high'), ('low'), ('mid');
    CREATE TABLE domains (id short PRIMARY KEY); INSERT INTO domains VALUES ('a1'), ('a2'), ('a3')`)
  const chunks = { backfill: { chunkSize: 1 } }
  expect(await readWhole(pool, 'padded', chunks)).toEqual(['a1  ', 'a2  ', 'a3  '])
  expect(await readWhole(pool, 'bits', chunks)).toEqual(['100', '101', '110'])
  expect(await readWhole(pool, 'levels', chunks)).toEqual(['low', 'mid', 'high'])
  expect(await readWhole(pool, 'domains', chunks)).toEqual(['a1  ', 'a2  ', 'a3  '])
})

it('still reads the first table when install() fails at the second and is called again', async () => {
  const pool = database.pool()
  await pool.query('CREATE TABLE free (id int PRIMARY KEY); CREATE TABLE taken (id int PRIMARY KEY)')
  const taker = await database.client()
  await taker.query('BEGIN; LOCK TABLE taken IN ROW EXCLUSIVE MODE')
  // biome-ignore lint/suspicious/noExplicitAny: tables that are not in the type
  await using input = shopInput(pool, { name: 'twice', tables: ['free', 'taken'] as any, backfill: true })
  const first = input.install().then(
    () => 'installed',
    () => 'failed',
  )
  await eventually(async () => {
    const { rowCount } = await pool.query(
      `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
        WHERE a.datname = current_database() AND l.relation = 'taken'::regclass`,
    )
    return rowCount === 1
  })
  expect(await first).toBe('failed')
  await taker.query('ROLLBACK')
  await taker.end()
  await input.install()
  const { rows } = await pool.query(
    `SELECT backfill -> 'tables' AS tables FROM coordination.cursors WHERE name = 'twice'`,
  )
  expect(rows).toEqual([{ tables: ['public.free', 'public.taken'] }])
})
