import { lockId } from '@x/lock-core'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { CamelCasePlugin, Kysely, PostgresDialect } from 'kysely'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { acquireInTransaction, tryAcquireInTransaction } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database, { pollMs: 30 })
let one: Client
let other: Client
beforeEach(async () => {
  one = await database.client()
  other = await database.client()
})
afterEach(() => Promise.allSettled([one.end(), other.end()]))

describe('a lock in the caller’s transaction', () => {
  it('excludes, and is excluded by, the locker; COMMIT and ROLLBACK free it', async () => {
    const locker = createLocker()
    for (const end of ['COMMIT', 'ROLLBACK']) {
      await one.query('BEGIN')
      await acquireInTransaction(one, { key: 'key' })
      expect(await locker.tryAcquire('key')).toBe(null)
      const waiter = locker.acquire('key')
      await one.query(end)
      const lock = await waiter
      await other.query('BEGIN')
      expect(await tryAcquireInTransaction(other, { key: 'key' })).toBe(false)
      expect(await tryAcquireInTransaction(other, { key: 'key', namespace: 1 })).toBe(true)
      await other.query('ROLLBACK')
      await lock.release()
    }
  })

  it('knows both modes', async () => {
    await Promise.all([one.query('BEGIN'), other.query('BEGIN')])
    await acquireInTransaction(one, { key: 'key', mode: 'shared' })
    expect(await tryAcquireInTransaction(other, { key: 'key' })).toBe(false)
    expect(await tryAcquireInTransaction(other, { key: 'key', mode: 'shared' })).toBe(true)
    await Promise.all([one.query('COMMIT'), other.query('COMMIT')])
  })

  it('waits until its timeout, and 0 is one attempt that leaves the transaction usable', async () => {
    const lock = await createLocker().acquire('key')
    await one.query('BEGIN')
    const now = acquireInTransaction(one, { key: 'key', waitTimeoutMs: 0 })
    await expect(now).rejects.toMatchObject({ code: 'LOCK_TIMEOUT', key: 'key', waitTimeoutMs: 0 })
    await one.query('SAVEPOINT before')
    const late = acquireInTransaction(one, { key: 'key', waitTimeoutMs: 30 })
    await expect(late).rejects.toMatchObject({ code: 'LOCK_TIMEOUT', waitTimeoutMs: 30 })
    await one.query('ROLLBACK TO before')
    expect(await one.query('SHOW lock_timeout')).toMatchObject({ rows: [{ lock_timeout: '0' }] })
    await lock.release()
    await acquireInTransaction(one, { key: 'key', waitTimeoutMs: 30 })
    await one.query('COMMIT')
  })

  it('without a timeout of its own keeps to the caller’s lock_timeout, and says so; with Infinity it does not', async () => {
    const lock = await createLocker().acquire('key')
    await one.query(`SET lock_timeout = '40ms'`)
    await one.query('BEGIN')
    await expect(acquireInTransaction(one, { key: 'key' })).rejects.toMatchObject({
      code: 'LOCK_TIMEOUT',
      waitTimeoutMs: Number.POSITIVE_INFINITY,
      message: expect.stringContaining('lock_timeout'),
    })
    await one.query('ROLLBACK')
    await one.query('BEGIN')
    const patient = acquireInTransaction(one, { key: 'key', waitTimeoutMs: Number.POSITIVE_INFINITY })
    const { rows } = await other.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    await eventually(async () => {
      const waiting = await other.query(
        `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
          WHERE NOT granted AND pid <> $1 AND datname = current_database()`,
        [rows[0]?.pid],
      )
      return waiting.rowCount === 1
    })
    // Twice its lock_timeout, for which nothing must happen.
    await new Promise((resolve) => setTimeout(resolve, 80))
    await lock.release()
    await patient
    expect(await one.query('SHOW lock_timeout')).toMatchObject({ rows: [{ lock_timeout: '40ms' }] })
    await one.query('COMMIT')
  })

  it('refuses an option that does not exist', async () => {
    const mistyped: object = { key: 'key', waitTimeout: 5 }
    await expect(acquireInTransaction(one, { key: 'key', ...mistyped })).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringContaining('did you mean waitTimeoutMs?'),
    })
  })

  it.each(['0', '1500ms', '5s', '1min', '2h', '1d', '77'])('restores a lock_timeout of %s', async (value) => {
    await one.query(`SET lock_timeout = '${value}'`)
    const before = await one.query('SHOW lock_timeout')
    await one.query('BEGIN')
    await acquireInTransaction(one, { key: 'key', waitTimeoutMs: 250 })
    expect((await one.query('SHOW lock_timeout')).rows).toEqual(before.rows)
    await one.query('COMMIT')
    expect((await one.query('SHOW lock_timeout')).rows).toEqual(before.rows)
  })

  it('takes the deadlock that it is part of as one', async () => {
    await Promise.all([one.query('BEGIN'), other.query('BEGIN')])
    await acquireInTransaction(one, { key: 'a' })
    await acquireInTransaction(other, { key: 'b' })
    const outcomes = await Promise.allSettled([
      acquireInTransaction(one, { key: 'b' }).catch(async (error: unknown) => {
        await one.query('ROLLBACK')
        throw error
      }),
      acquireInTransaction(other, { key: 'a' }).catch(async (error: unknown) => {
        await other.query('ROLLBACK')
        throw error
      }),
    ])
    expect(outcomes.filter(({ status }) => status === 'rejected')).toMatchObject([
      { reason: { code: 'DEADLOCK', retryable: true } },
    ])
    await Promise.allSettled([one.query('ROLLBACK'), other.query('ROLLBACK')])
  })

  it('is refused outside a transaction, where it would end with the statement', async () => {
    await expect(acquireInTransaction(one, { key: 'key' })).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    const pool = database.pool()
    // @ts-expect-error a pool is refused by type as well
    await expect(tryAcquireInTransaction(pool, { key: 'key' })).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    const bad: readonly unknown[] = ['', 'a\0', '\ud800', 7]
    await one.query('BEGIN')
    for (const key of bad) {
      await expect(acquireInTransaction(one, { key: key as string })).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    }
    await one.query('ROLLBACK')
  })

  it('works in a Kysely transaction, with a plugin that renames columns, and by any object with query()', async () => {
    const db = new Kysely<object>({
      dialect: new PostgresDialect({ pool: database.pool({ max: 2 }) }),
      plugins: [new CamelCasePlugin()],
    })
    const locker = createLocker()
    await db.transaction().execute(async (trx) => {
      await acquireInTransaction(trx, { key: 'key', waitTimeoutMs: 1_000 })
      expect(await tryAcquireInTransaction(trx, { key: 'another' })).toBe(true)
      expect(await locker.tryAcquire('key')).toBe(null)
    })
    await one.query('BEGIN')
    const rowsOnly = { query: async (text: string, values: unknown[]) => (await one.query(text, values)).rows }
    await acquireInTransaction(rowsOnly, { key: 'key' })
    expect(await locker.tryAcquire('key')).toBe(null)
    await one.query('ROLLBACK')
    await db.destroy()
  })

  it('sees its functions although the caller’s search_path hides them', async () => {
    await one.query('CREATE SCHEMA hiding')
    await one.query(
      `CREATE FUNCTION hiding.pg_try_advisory_xact_lock(bigint) RETURNS bool LANGUAGE sql AS 'SELECT true'`,
    )
    await one.query('SET search_path = hiding, pg_catalog')
    await other.query('SELECT pg_advisory_lock($1)', [String(lockId(0, 'key'))])
    await one.query('BEGIN')
    expect(await tryAcquireInTransaction(one, { key: 'key' })).toBe(false)
    await one.query('ROLLBACK')
    await one.query('DROP SCHEMA hiding CASCADE')
  })
})
