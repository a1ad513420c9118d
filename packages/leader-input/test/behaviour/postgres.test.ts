/** Facts of the server that the feed rests on, each alone. Where one of these fails on a new major version, the code that rests on it is wrong there. */
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const database = useDatabase({ leakCheck: 'file' })
let a: Client
let b: Client
beforeEach(async () => {
  a = await database.client()
  b = await database.client()
  await a.query('DROP TABLE IF EXISTS t, u, log CASCADE; CREATE TABLE t (id int PRIMARY KEY, v int)')
})
afterEach(async () => {
  await a.end()
  await b.end()
})
const one = async (client: Client, sql: string): Promise<unknown> =>
  Object.values((await client.query(sql)).rows[0] ?? {})[0]

describe('transactions and snapshots', () => {
  it('gives a row under a savepoint the id of the top transaction', async () => {
    await a.query('CREATE TABLE log (xid xid8 DEFAULT pg_current_xact_id())')
    await a.query('BEGIN; INSERT INTO log DEFAULT VALUES; SAVEPOINT s; INSERT INTO log DEFAULT VALUES; RELEASE s')
    expect(await one(a, 'SELECT count(DISTINCT xid)::int FROM log')).toBe(1)
    await a.query('COMMIT')
  })

  it('hands out ids that are not below the xmax of a snapshot taken later', async () => {
    // Unless a later transaction has ended meanwhile, in whichever database of the server: other tests have theirs.
    await eventually(async () => {
      await a.query('BEGIN')
      const xid = BigInt(String(await one(a, 'SELECT pg_current_xact_id()::text')))
      const xmax = BigInt(String(await one(b, 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text')))
      await a.query('COMMIT')
      return xid >= xmax
    })
  })

  it('draws from a sequence before the commit: number order is not commit order', async () => {
    await a.query('CREATE TABLE log (seq bigint GENERATED ALWAYS AS IDENTITY)')
    await a.query('BEGIN; INSERT INTO log DEFAULT VALUES')
    await b.query('INSERT INTO log DEFAULT VALUES')
    expect(await one(b, 'SELECT min(seq)::int FROM log')).toBe(2)
    await a.query('COMMIT')
    expect(await one(b, 'SELECT min(seq)::int FROM log')).toBe(1)
  })

  it('says last_value 1 of a sequence that was never used', async () => {
    await a.query('CREATE TABLE log (seq bigint GENERATED ALWAYS AS IDENTITY)')
    expect((await a.query('SELECT last_value::int, is_called FROM log_seq_seq')).rows).toEqual([
      { last_value: 1, is_called: false },
    ])
  })

  it('takes the snapshot of a statement before it reads a sequence', async () => {
    await a.query('CREATE TABLE log (seq bigint GENERATED ALWAYS AS IDENTITY)')
    await b.query('BEGIN; INSERT INTO log DEFAULT VALUES; INSERT INTO log DEFAULT VALUES')
    // Drawn, not visible: a bound from the same statement is above all that is visible, never a bound below what is to come.
    expect(
      (await a.query('SELECT last_value::int AS n, (SELECT count(*)::int FROM log) AS seen FROM log_seq_seq')).rows,
    ).toEqual([{ n: 2, seen: 0 }])
    await b.query('COMMIT')
  })

  it('shows the transaction that holds a row in its xmax, and the backend by it in pg_locks', async () => {
    await a.query('INSERT INTO t VALUES (1, 1)')
    await a.query('BEGIN; UPDATE t SET v = 2 WHERE id = 1')
    const holder = `SELECT l.pid FROM t JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = t.xmax WHERE l.granted AND l.mode = 'ExclusiveLock'`
    expect(await one(b, holder)).toBe(await one(a, 'SELECT pg_backend_pid()'))
    await a.query('ROLLBACK')
  })

  it('answers COMMIT with ROLLBACK when a statement had failed', async () => {
    await a.query('BEGIN')
    await a.query('SELECT 1/0').catch(() => {})
    expect((await a.query('COMMIT')).command).toBe('ROLLBACK')
  })
})

describe('JSON', () => {
  it('refuses as jsonb, and reads as json, what a json column may hold', async () => {
    await a.query(`CREATE TABLE u (j json); INSERT INTO u VALUES ('{"a":"\\u0000","b":1e400000}')`)
    await expect(a.query('SELECT to_jsonb(u.*) FROM u')).rejects.toMatchObject({ code: expect.stringMatching(/^22/) })
    expect(await one(a, 'SELECT to_json(u.*)::text FROM u')).toBe('{"j":{"a":"\\u0000","b":1e400000}}')
  })

  it('fails on json -> key as well, when some text in it has an escape that is no character', async () => {
    await expect(a.query(`SELECT '{"id":1,"a":"\\u0000"}'::json -> 'id'`)).rejects.toMatchObject({ code: '22P05' })
    await expect(a.query(`SELECT '{"id":1,"a":"\\ud800"}'::json -> 'id'`)).rejects.toMatchObject({
      code: expect.stringMatching(/^22/),
    })
    expect(await one(a, `SELECT ('{"id":1,"a":1e400000}'::json -> 'id')::text`)).toBe('1')
  })

  it('takes an alias for a column of that name, and alias.* for the row', async () => {
    await a.query('CREATE TABLE u (u int); INSERT INTO u VALUES (7)')
    expect(await one(a, 'SELECT to_json(u)::text FROM u')).toBe('7')
    expect(await one(a, 'SELECT to_json(u.*)::text FROM u')).toBe('{"u":7}')
  })
})

describe('triggers', () => {
  const see = `CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_TABLE_NAME || ' ' || TG_OP); RETURN NULL; END $$; CREATE TABLE log (what text)`
  const logged = async (): Promise<string[]> => (await a.query('SELECT what FROM log')).rows.map(({ what }) => what)

  it('fires TRUNCATE triggers of the root before those of its partitions', async () => {
    await a.query(`${see}; CREATE TABLE u (id int) PARTITION BY RANGE (id); CREATE TABLE u1 PARTITION OF u DEFAULT;
      CREATE TRIGGER s AFTER TRUNCATE ON u FOR EACH STATEMENT EXECUTE FUNCTION see(); CREATE TRIGGER s AFTER TRUNCATE ON u1 FOR EACH STATEMENT EXECUTE FUNCTION see(); TRUNCATE u`)
    expect(await logged()).toEqual(['u TRUNCATE', 'u1 TRUNCATE'])
  })

  it('fires statement triggers of the named table only, with the rows of all partitions', async () => {
    await a.query(`${see}; CREATE TABLE u (id int) PARTITION BY RANGE (id); CREATE TABLE u1 PARTITION OF u DEFAULT;
      CREATE TRIGGER s AFTER INSERT ON u FOR EACH STATEMENT EXECUTE FUNCTION see(); CREATE TRIGGER s AFTER INSERT ON u1 FOR EACH STATEMENT EXECUTE FUNCTION see();
      INSERT INTO u VALUES (1); INSERT INTO u1 VALUES (2)`)
    expect(await logged()).toEqual(['u INSERT', 'u1 INSERT'])
  })

  it('skips ordinary triggers for replicas, and not those that are enabled always', async () => {
    await a.query(
      `${see}; CREATE TRIGGER s AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION see(); SET session_replication_role = replica; INSERT INTO t VALUES (1)`,
    )
    expect(await logged()).toEqual([])
    await a.query('ALTER TABLE t ENABLE ALWAYS TRIGGER s; INSERT INTO t VALUES (2)')
    expect(await logged()).toEqual(['t INSERT'])
  })

  it('fills both transition tables of an UPDATE in the same order', async () => {
    await a.query(`CREATE TABLE log (before int, after int);
      CREATE OR REPLACE FUNCTION pair() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log SELECT o.id, n.id FROM (SELECT row_number() OVER () i, id FROM olds) o JOIN (SELECT row_number() OVER () i, id FROM news) n USING (i); RETURN NULL; END $$;
      CREATE TRIGGER p AFTER UPDATE ON t REFERENCING OLD TABLE AS olds NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION pair();
      INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n; UPDATE t SET id = -id`)
    expect(await one(a, 'SELECT count(*)::int FROM log WHERE before = -after')).toBe(1000)
  })
})

it('runs a cast function of the owner of a type when a row is turned into JSON, with the rights of whoever does it', async () => {
  await a.query(`
    DROP TYPE IF EXISTS trap CASCADE; CREATE TYPE trap AS ENUM ('a');
    CREATE OR REPLACE FUNCTION spring(trap) RETURNS json LANGUAGE sql AS 'SELECT to_json(current_user::text)';
    CREATE CAST (trap AS json) WITH FUNCTION spring(trap);
    CREATE TABLE u (x trap); INSERT INTO u VALUES ('a')`)
  expect(await one(a, 'SELECT to_json(u.*)::text FROM u')).toBe('{"x":"postgres"}')
})

it('waits in a queue for ACCESS EXCLUSIVE and holds up all who come later; NOWAIT does neither', async () => {
  await a.query('BEGIN; INSERT INTO t VALUES (1, 1)')
  await expect(b.query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE NOWAIT')).rejects.toMatchObject({ code: '55P03' })
  await b.query('ROLLBACK; INSERT INTO t VALUES (2, 2)')
  await a.query('COMMIT')
})
