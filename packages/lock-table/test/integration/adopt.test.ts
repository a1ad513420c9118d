import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { adopt, migrate } from '../../src/migrations.ts'
import { runDown } from '../support/run-down.ts'

const database = useDatabase()

const classic = (table: string): string => `
  CREATE SCHEMA IF NOT EXISTS blacksmith_supervisor;
  DROP TABLE IF EXISTS ${table} CASCADE;
  CREATE TABLE ${table} (
    key TEXT PRIMARY KEY,
    is_acquired BOOL NOT NULL DEFAULT FALSE,
    session_id VARCHAR(27),
    acquirer_name TEXT,
    acquirer_address TEXT,
    acquired_at TIMESTAMP WITHOUT TIME ZONE
  );
  INSERT INTO ${table} VALUES
    ('held', true, '1srOrx2ZWZBpBUvZwXKQmoEYga2', 'old-host', '10.0.0.1', '2026-01-02 03:04:05'),
    ('free', false, NULL, NULL, NULL, NULL);`

/** What a supervisor that knows nothing of leases does. */
const oldAcquire = async (client: Client, table: string, key: string): Promise<boolean> => {
  const { rowCount } = await client.query(
    `INSERT INTO ${table} AS l (key, is_acquired, session_id, acquirer_name, acquirer_address, acquired_at)
     VALUES ($1, true, '2srOrx2ZWZBpBUvZwXKQmoEYga2', 'old-host', '10.0.0.1', now() AT TIME ZONE 'UTC')
     ON CONFLICT (key) DO UPDATE SET is_acquired = true, session_id = excluded.session_id,
       acquirer_name = excluded.acquirer_name, acquirer_address = excluded.acquirer_address, acquired_at = excluded.acquired_at
     WHERE NOT l.is_acquired`,
    [key],
  )
  return rowCount === 1
}
const oldRelease = (client: Client, table: string, key: string): Promise<unknown> =>
  client.query(
    `UPDATE ${table} SET is_acquired = false, session_id = NULL, acquirer_name = NULL, acquirer_address = NULL,
       acquired_at = NULL WHERE key = $1`,
    [key],
  )
const oldRead = async (client: Client, table: string, key: string): Promise<unknown> => {
  const { rows } = await client.query(
    `SELECT is_acquired, session_id, acquirer_name, acquirer_address FROM ${table} WHERE key = $1`,
    [key],
  )
  return rows[0]
}

describe.each(['locks', 'supervisor_locks'])('an adopted table named %s', (name) => {
  const table = `blacksmith_supervisor.${name}`
  const options = { schema: 'blacksmith_supervisor', table: name, pollMs: 50, wakeUps: 'poll' as const }
  let old: Client

  beforeEach(async () => {
    old = await database.client()
    await old.query('DROP SCHEMA IF EXISTS blacksmith_supervisor CASCADE')
    await old.query(classic(table))
    await adopt(database.pool(), { schema: 'blacksmith_supervisor', table: name })
    return () => old.end()
  })

  it('can be adopted again, and keeps its rows', async () => {
    const again = await adopt(database.pool(), { schema: 'blacksmith_supervisor', table: name })
    expect(again).toEqual({ applied: [], version: 1 })
    expect(await oldRead(old, table, 'held')).toEqual({
      is_acquired: true,
      session_id: '1srOrx2ZWZBpBUvZwXKQmoEYga2',
      acquirer_name: 'old-host',
      acquirer_address: '10.0.0.1',
    })
  })

  it('respects what is held without a lease until it is released, and shows who has it', async () => {
    await using locker = createTableLocker({ pool: database.pool(), ...options })
    expect(await locker.status('held')).toMatchObject({
      isAcquired: true,
      sessionId: '1srOrx2ZWZBpBUvZwXKQmoEYga2',
      acquirerName: 'old-host',
      acquirerAddress: '10.0.0.1',
      acquiredAt: new Date('2026-01-02T03:04:05Z'),
      expiresAt: null,
    })
    expect(await locker.tryAcquire('held')).toBeNull()
    const waiting = locker.acquire('held')
    await expect.poll(async () => (await locker.status('held')).waiters).toBe(1)
    await oldRelease(old, table, 'held')
    const lock = await waiting
    expect(lock.isHeld()).toBe(true)
    await lock.release()
  })

  it('respects a row that an old writer takes after the adoption, also one that we held before', async () => {
    await using locker = createTableLocker({ pool: database.pool(), ...options })
    const first = await locker.acquire('free', { ttlMs: 1_000, renew: 'manual' })
    expect(await oldAcquire(old, table, 'free')).toBe(false)
    await first.release()
    expect(await oldAcquire(old, table, 'free')).toBe(true)
    // Longer than the lease that the row had: a stale end of it would free the key.
    await expect(locker.acquire('free', { waitTimeoutMs: 1_500 })).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
    expect(await locker.status('free')).toMatchObject({ isAcquired: true, acquirerName: 'old-host' })
    expect(await locker.forceRelease('free')).toBe(true)
    const next = await locker.tryAcquire('free')
    expect(next?.fencingToken).toBeGreaterThan(first.fencingToken ?? 0n)
    await next?.release()
  })

  it('frees rows durably: to readers that know no end of a lease, one that came back would be taken for good', async () => {
    await old.query(`
      CREATE TABLE blacksmith_supervisor.commits (setting text);
      CREATE FUNCTION blacksmith_supervisor.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO blacksmith_supervisor.commits VALUES (current_setting('synchronous_commit'));
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER note AFTER UPDATE OF is_acquired ON ${table} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NOT NEW.is_acquired) EXECUTE FUNCTION blacksmith_supervisor.note();`)
    const pool = database.pool({ options: '-c synchronous_commit=off' })
    await using locker = createTableLocker({ pool, ...options })
    const [alone, ...many] = await Promise.all(['a', 'b', 'c'].map((key) => locker.acquire(key)))
    await alone?.release()
    await Promise.all(many.map((lock) => lock.release()))
    const { rows } = await old.query('SELECT setting FROM blacksmith_supervisor.commits')
    expect(rows).toEqual([{ setting: 'on' }, { setting: 'on' }, { setting: 'on' }])
  })

  it('shows readers of the six columns the truth', async () => {
    await using locker = createTableLocker({
      pool: database.pool(),
      ...options,
      acquirer: { name: 'new-host', address: '10.0.0.2' },
    })
    const lock = await locker.acquire('free')
    expect(await oldRead(old, table, 'free')).toEqual({
      is_acquired: true,
      session_id: lock.sessionId,
      acquirer_name: 'new-host',
      acquirer_address: '10.0.0.2',
    })
    const { rows } = await old.query(
      `SELECT abs(extract(epoch FROM acquired_at - now() AT TIME ZONE 'UTC')) < 5 AS utc FROM ${table} WHERE key = 'free'`,
    )
    expect(rows).toEqual([{ utc: true }])
    await lock.release()
    expect(await oldRead(old, table, 'free')).toMatchObject({ is_acquired: false, session_id: null })
  })
})

describe('the way back and the way in', () => {
  it('down gives the classic table back, with its rows', async () => {
    const client = await database.client()
    await client.query('DROP SCHEMA IF EXISTS blacksmith_supervisor CASCADE')
    await client.query(classic('blacksmith_supervisor.locks'))
    const columns = `SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute
      WHERE attrelid = 'blacksmith_supervisor.locks'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`
    const before = await client.query(columns)
    await adopt(database.pool(), { schema: 'blacksmith_supervisor' })
    const locker = createTableLocker({ pool: database.pool(), schema: 'blacksmith_supervisor' })
    await using lock = await locker.acquire('free')
    // To readers that know no end of a lease, what a crashed holder left would be taken for ever.
    await client.query(`INSERT INTO blacksmith_supervisor.locks (key, is_acquired, expires_at)
      VALUES ('crashed', true, now() - interval '1 minute')`)
    await runDown(client, 'blacksmith_supervisor', ['0002_lock_table', '0001_fencing'])
    expect((await client.query(columns)).rows).toEqual(before.rows)
    const { rows } = await client.query('SELECT key, is_acquired FROM blacksmith_supervisor.locks ORDER BY key')
    expect(rows).toEqual([
      { key: 'crashed', is_acquired: false },
      { key: 'free', is_acquired: true },
      { key: 'held', is_acquired: true },
    ])
    const { rows: rest } = await client.query(
      `SELECT relname FROM pg_class WHERE relnamespace = 'blacksmith_supervisor'::regnamespace AND relkind <> 'i'`,
    )
    expect(rest).toEqual([{ relname: 'locks' }])
    await lock[Symbol.asyncDispose]()
    await locker.close()
    await client.end()
  })

  it('down leaves nothing of a table of our own', async () => {
    const client = await database.client()
    await migrate(database.pool(), { schema: 'mine' })
    await runDown(client, 'mine', ['0002_lock_table', '0001_fencing'])
    const { rows } = await client.query(`SELECT FROM pg_namespace WHERE nspname = 'mine'`)
    expect(rows).toEqual([])
    await client.end()
  })

  it('refuses a table that is not there, and one of somebody else', async () => {
    const pool = database.pool()
    await expect(adopt(pool, { schema: 'nowhere' })).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    await pool.query('CREATE SCHEMA other; CREATE TABLE other.locks (key text PRIMARY KEY, door text)')
    await expect(adopt(pool, { schema: 'other' })).rejects.toThrow(/expected none, or the classic one/)
    const { rows } = await pool.query(
      `SELECT attname FROM pg_attribute WHERE attrelid = 'other.locks'::regclass AND attnum > 0`,
    )
    expect(rows).toEqual([{ attname: 'key' }, { attname: 'door' }])
  })
})
