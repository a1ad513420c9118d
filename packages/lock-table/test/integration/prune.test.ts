import { useDatabase } from '@x/testkit/vitest'
import { afterEach, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { grantWays, holderSql } from '../support/grant-ways.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

afterEach(() =>
  database
    .pool()
    .query(
      'TRUNCATE coordination.locks, coordination.lock_shares, coordination.lock_waiters, coordination.lock_sessions',
    ),
)

it('deletes keys that are free or whose holder died, and what dead processes left behind, and nothing else', async () => {
  await using locker = createTableLocker({ pool: database.pool(), wakeUps: 'poll' })
  const pool = database.pool()
  await pool.query(
    `INSERT INTO coordination.locks (key, is_acquired, shared, line, expires_at, released_at, acquired_at) VALUES
       ('gone/free', false, false, 0, NULL, now() - interval '2 hours', NULL),
       ('gone/classic', false, false, 0, NULL, NULL, (now() - interval '2 hours') AT TIME ZONE 'UTC'),
       ('gone/never held', false, false, 0, NULL, NULL, NULL),
       ('gone/dead holder', true, false, 0, now() - interval '2 hours', NULL, NULL),
       ('kept/free for less', false, false, 0, NULL, now() - interval '30 minutes', NULL),
       ('kept/free with a line', false, false, 7, NULL, now() - interval '2 hours', NULL),
       ('kept/dead holder, but a line', true, false, 7, now() - interval '2 hours', NULL, NULL),
       ('kept/held', true, false, 0, now() + interval '1 hour', NULL, NULL),
       ('kept/held without end', true, false, 0, NULL, NULL, (now() - interval '2 hours') AT TIME ZONE 'UTC'),
       ('kept/shared', true, true, 0, now() + interval '1 hour', NULL, NULL)`,
  )
  await pool.query(
    `INSERT INTO coordination.lock_sessions (session_id, expires_at) VALUES
       ('gone', now() - interval '2 hours'), ('kept/lapsed', now() - interval '1 minute'), ('kept', now() + interval '1 hour')`,
  )
  await pool.query(
    `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared) VALUES
       ('kept/held', 1, 'gone', 'gone/1', false), ('kept/held', 2, 'never known', 'gone/2', false),
       ('kept/held', 3, 'kept/lapsed', 'gone/3', false), ('kept/held', 4, 'kept', 'kept/4', false)`,
  )
  await pool.query(
    `INSERT INTO coordination.lock_shares (key, session_id, acquired_at, expires_at, fencing_token) VALUES
       ('kept/shared', 'gone', now(), now() - interval '2 hours', 1), ('kept/shared', 'kept', now(), now() + interval '1 hour', 2)`,
  )
  expect(await locker.prune(3_600_000)).toBe(4)
  const left = async (column: string, table: string): Promise<string[]> =>
    (await pool.query(`SELECT ${column} AS what FROM coordination.${table} ORDER BY 1`)).rows.map(({ what }) => what)
  const keys = await left('key', 'locks')
  expect(keys).toHaveLength(6)
  for (const key of keys) expect(key).toMatch(/^kept/)
  expect(await left('session_id', 'lock_sessions')).toEqual(['kept', 'kept/lapsed'])
  expect(await left('owner', 'lock_waiters')).toEqual(['kept/4'])
  expect(await left('session_id', 'lock_shares')).toEqual(['kept'])
})

it('leaves a lease that is over for a minute, however soon it is to be deleted', async () => {
  await using locker = createTableLocker({ pool: database.pool(), wakeUps: 'poll' })
  await database.pool().query(
    `INSERT INTO coordination.locks (key, is_acquired, expires_at) VALUES
       ('now', true, now() - interval '1 second'), ('then', true, now() - interval '2 minutes')`,
  )
  expect(await locker.prune(0)).toBe(1)
  expect((await locker.list()).map(({ key }) => key)).toEqual(['now'])
})

// Its number was drawn for a row that it would make; since then somebody has made it, held it, and released it.
it('waits for a grant that is under way: without the row it would have a token below an earlier one', async () => {
  await using locker = createTableLocker({ pool: database.pool(), wakeUps: 'poll' })
  const [slow, gate] = [await database.client(), await database.client()]
  await gate.query(`
    CREATE FUNCTION coordination.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_advisory_xact_lock(42);
      RETURN NEW;
    END $$;
    CREATE TRIGGER stop BEFORE INSERT ON coordination.locks FOR EACH ROW WHEN (NEW.session_id = 'late')
      EXECUTE FUNCTION coordination.stop();
    SELECT pg_advisory_lock(42)`)
  const way = grantWays['the statement for one free key']
  const late = slow.query(way?.('key', 'late') ?? { text: '', values: [] })
  const waits = async (what: string): Promise<boolean> =>
    (
      await gate.query(`SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND NOT l.granted AND ${what}`)
    ).rows.length > 0
  await expect.poll(() => waits(`l.locktype = 'advisory'`)).toBe(true)
  const earlier = await locker.acquire('key')
  await earlier.release()
  let isPruned = false
  const pruned = locker.prune(0).then(() => {
    isPruned = true
  })
  await expect.poll(async () => isPruned || (await waits(`l.relation = 'coordination.locks'::regclass`))).toBe(true)
  // A dump, and whoever looks, need not wait for it.
  const dump = await gate
    .query('DO $$ BEGIN LOCK TABLE coordination.locks IN ACCESS SHARE MODE NOWAIT; END $$')
    .then(() => 'reads', String)
  await gate.query('SELECT pg_advisory_unlock(42)')
  await late
  await pruned
  expect(dump).toBe('reads')
  expect((await gate.query(holderSql, ['key'])).rows).toEqual([{ holder: 'late' }])
  const { fencingToken } = await locker.status('key')
  expect(fencingToken).toBeGreaterThan(earlier.fencingToken ?? 0n)
  await gate.query('DROP TRIGGER stop ON coordination.locks')
  await slow.end()
  await gate.end()
})
