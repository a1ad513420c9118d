import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Kysely, PostgresDialect } from 'kysely'
import type { Pool } from 'pg'
import { describe, expect, it } from 'vitest'
import { asExecutor, assertInTransaction, checkFence, fencingBaseSql, migrate } from '../../src/index.ts'
import { drawTokenSql } from '../draw-token.ts'

const database = useDatabase({
  template: {
    name: 'fencing',
    prepare: async (pool) => {
      await migrate(pool, { package: 'fencing', migrations: ['0001_fencing'] })
    },
  },
})
const token = async (pool: Pool): Promise<bigint> =>
  BigInt((await pool.query(`SELECT ${drawTokenSql('coordination')} AS t`)).rows[0].t)
const rebased = (pool: Pool, change: string): Promise<unknown> =>
  pool.query(`UPDATE coordination.fencing SET ${change}`)
/** Of this database: other files wait for locks on the same server. */
const waitingHere = `
  SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`

describe('fencing tokens', () => {
  it('are timeline times 2^48 plus a number that only rises', async () => {
    const pool = database.pool()
    const first = await token(pool)
    expect(first >> 48n).toBe(1n)
    expect(await token(pool)).toBe(first + 1n)
    expect(BigInt((await pool.query('SELECT coordination.next_fencing_token() AS t')).rows[0].t)).toBe(first + 2n)
  })

  it('take the base once a statement', async () => {
    const pool = database.pool()
    const plan = await pool.query(
      `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT ${drawTokenSql('coordination')} FROM generate_series(1, 1000)`,
    )
    const lines = plan.rows.map((row) => row['QUERY PLAN']).join('\n')
    expect(lines).toMatch(/InitPlan/)
    expect(lines).toMatch(/fencing f \(actual rows=1(\.00)? loops=1\)/)
  })

  it('are higher after a restore, an upgrade and a move to another kind of server', async () => {
    const pool = database.pool()
    let last = await token(pool)
    const higherAfter = async (change: string): Promise<void> => {
      await rebased(pool, `${change}, server_started_at = '-infinity'`)
      // A dump has an older position of the sequence in it.
      await pool.query(`SELECT setval('coordination.fencing_tokens', 1)`)
      const next = await token(pool)
      expect(next).toBeGreaterThan(last)
      last = next
    }
    await higherAfter(`system_identifier = 'another cluster'`)
    await higherAfter(`table_oid = 1`)
    await higherAfter(`system_identifier = 'a third', timeline = 9`)
    await higherAfter(`system_identifier = 'a fourth'`)
  })

  it('stay as they are over a plain restart of the server', async () => {
    const pool = database.pool()
    const before = await token(pool)
    await rebased(pool, `server_started_at = '-infinity'`)
    expect(await token(pool)).toBe(before + 1n)
  })

  it('fail loudly when the knowledge of earlier ones is gone, and when they are used up', async () => {
    const client = await database.client()
    await client.query('BEGIN; DELETE FROM coordination.fencing')
    await expect(client.query(`SELECT ${fencingBaseSql('coordination')}`)).rejects.toThrow(
      /row of table fencing is gone/,
    )
    await client.query('ROLLBACK; BEGIN')
    await client.query(`UPDATE coordination.fencing SET epoch_offset = 32767, server_started_at = '-infinity'`)
    await expect(client.query(`SELECT ${fencingBaseSql('coordination')}`)).rejects.toThrow(/used up/)
    await client.query('ROLLBACK')
    await client.end()
  })

  it('are drawn by many at once without a repetition', async () => {
    const pool = database.pool({ max: 8 })
    await rebased(pool, `server_started_at = '-infinity'`)
    const tokens = await Promise.all(Array.from({ length: 200 }, () => token(pool)))
    expect(new Set(tokens).size).toBe(200)
  })
})

describe('checkFence', () => {
  const inTransaction = async (pool: Pool, resource: string, value: bigint): Promise<void> => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await checkFence(client, { resource, token: value })
      await client.query('COMMIT')
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }

  it('lets newer and equal tokens pass and refuses older ones', async () => {
    const pool = database.pool()
    await inTransaction(pool, 'report', 5n)
    await inTransaction(pool, 'report', 5n)
    await inTransaction(pool, 'report', 2n ** 62n)
    await expect(inTransaction(pool, 'report', 6n)).rejects.toMatchObject({
      code: 'STALE_FENCE',
      resource: 'report',
      token: 6n,
      newest: 2n ** 62n,
    })
    await inTransaction(pool, 'another', 1n)
  })

  it('makes a newer writer wait for an older one that is at it, and refuses the older that comes second', async () => {
    const pool = database.pool()
    const [older, newer] = await Promise.all([database.client(), database.client()])
    await older.query('BEGIN')
    await newer.query('BEGIN')
    await checkFence(older, { resource: 'r', token: 1n })
    let passed = false
    const waiting = checkFence(newer, { resource: 'r', token: 2n }).then(() => {
      passed = true
    })
    await eventually(async () => (await pool.query(waitingHere)).rowCount === 1)
    expect(passed).toBe(false)
    await older.query('COMMIT')
    await waiting
    await older.query('BEGIN')
    const late = expect(checkFence(older, { resource: 'r', token: 1n })).rejects.toMatchObject({ code: 'STALE_FENCE' })
    await eventually(async () => (await pool.query(waitingHere)).rowCount === 1)
    await newer.query('COMMIT')
    await late
    await older.query('ROLLBACK')
    await Promise.all([older.end(), newer.end()])
  })

  it('holds for equal tokens too until the end of the transaction', async () => {
    const pool = database.pool()
    await inTransaction(pool, 'equal', 3n)
    const [same, newer] = await Promise.all([database.client(), database.client()])
    await same.query('BEGIN')
    await newer.query('BEGIN')
    await checkFence(same, { resource: 'equal', token: 3n })
    const waiting = checkFence(newer, { resource: 'equal', token: 4n })
    await eventually(async () => (await pool.query(waitingHere)).rowCount === 1)
    await same.query('COMMIT')
    await waiting
    await newer.query('COMMIT')
    await Promise.all([same.end(), newer.end()])
  })

  it('never accepts a token below one that was accepted, with many writers at once', async () => {
    const pool = database.pool({ max: 10 })
    await pool.query('CREATE TABLE accepted (n int GENERATED ALWAYS AS IDENTITY, token bigint)')
    const write = async (value: bigint): Promise<void> => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        await checkFence(client, { resource: 'busy', token: value })
        await client.query('INSERT INTO accepted (token) VALUES ($1)', [String(value)])
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        expect(error).toMatchObject({ code: 'STALE_FENCE' })
      } finally {
        client.release()
      }
    }
    await Promise.all(Array.from({ length: 200 }, () => write(BigInt(Math.ceil(Math.random() * 50)))))
    const { rows } = await pool.query('SELECT token::int FROM accepted ORDER BY n')
    const order: number[] = rows.map((row) => row.token)
    expect(order).toEqual(order.toSorted((a, b) => a - b))
    expect(order.length).toBeGreaterThan(0)
  })

  it('refuses what is not in an open transaction, and leaves no trace of it', async () => {
    const pool = database.pool()
    const client = await database.client()
    const fence = { resource: 'outside', token: 1n }
    await expect(checkFence(client, fence)).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    const foreign = { query: (text: string, values: unknown[]) => client.query(text, values) }
    await expect(checkFence(foreign, fence)).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    await expect(checkFence(pool as never, fence)).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    const db = new Kysely<object>({ dialect: new PostgresDialect({ pool }) })
    await expect(checkFence(db, fence)).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    expect((await pool.query(`SELECT FROM coordination.fences WHERE resource = 'outside'`)).rowCount).toBe(0)
    await client.end()
  })

  it('runs in a Kysely transaction and in an object with query()', async () => {
    const pool = database.pool()
    const db = new Kysely<object>({ dialect: new PostgresDialect({ pool }) })
    await db.transaction().execute((trx) => checkFence(trx, { resource: 'kysely', token: 7n }))
    await expect(
      db.transaction().execute((trx) => checkFence(trx, { resource: 'kysely', token: 6n })),
    ).rejects.toMatchObject({ code: 'STALE_FENCE', newest: 7n })
    const client = await database.client()
    await client.query('BEGIN')
    const rowsOnly = { query: async (text: string, values: unknown[]) => (await client.query(text, values)).rows }
    await checkFence(rowsOnly, { resource: 'kysely', token: 8n })
    await assertInTransaction(asExecutor(rowsOnly, 'test'), 'test')
    await client.query('COMMIT')
    await expect(assertInTransaction(asExecutor(rowsOnly, 'test'), 'test')).rejects.toMatchObject({
      code: 'NOT_IN_TRANSACTION',
    })
    await client.end()
  })

  it.each([
    ['no token', { resource: 'r', token: null as unknown as bigint }, 'token'],
    ['a number', { resource: 'r', token: 5 as unknown as bigint }, 'token'],
    ['a negative token', { resource: 'r', token: -1n }, 'token'],
    ['a token over 63 bits', { resource: 'r', token: 2n ** 63n }, 'token'],
    ['an empty resource', { resource: '', token: 1n }, 'resource'],
    ['NUL', { resource: 'a\0', token: 1n }, 'resource'],
    ['10 MB', { resource: 'x'.repeat(10_000_000), token: 1n }, 'resource'],
    ['a bad schema', { resource: 'r', token: 1n, schema: 'x'.repeat(64) }, 'schema'],
    ['a mistyped option', { resource: 'r', token: 1n, shema: 'app' }, 'shema'],
    ['nothing', undefined as unknown as { resource: string; token: bigint }, null],
  ])('refuses %s', async (_what, fence, option) => {
    const executor = { query: () => Promise.reject(new Error('no I/O')) }
    await expect(checkFence(executor, fence)).rejects.toMatchObject({ code: 'INVALID_OPTIONS', option })
  })

  it('takes SQL in a resource for text, and says which migration is missing', async () => {
    const client = await database.client()
    await client.query('BEGIN')
    await checkFence(client, { resource: `'); DROP TABLE coordination.fences; --`, token: 1n })
    await expect(
      checkFence(client, { resource: 'r', token: 1n, schema: `x"; DROP SCHEMA coordination; --` }),
    ).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    await client.query('ROLLBACK')
    await client.end()
  })

  it.each([null, undefined, 5, {}, { query: 5 }])('refuses the executor %j', async (executor) => {
    await expect(checkFence(executor as never, { resource: 'r', token: 1n })).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      option: 'executor',
    })
  })
})
