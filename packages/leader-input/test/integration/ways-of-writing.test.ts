import { createMemoryLocker } from '@x/lock-core/memory'
import { createDatabase, eventually, startPrivatePostgres } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { createLeaderInput, type LeaderInput, type LeaderInputOptions } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { logged as loggedIn } from '../support/logged.ts'

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
type Anything = Record<string, any>
const template = { name: 'leader-input-empty', prepare: async (pool: Pool) => void (await migrate(pool)) }
const database = useDatabase({ template })
let pool: Pool
let number = 0
beforeEach(() => {
  pool = database.pool()
  number += 1
})
const inputOn = (
  tables: LeaderInputOptions<Anything>['tables'],
  options: Partial<LeaderInputOptions<Anything>> = {},
): LeaderInput<Anything> =>
  createLeaderInput<Anything>({ pool, locker: createMemoryLocker(), name: `ways${number}`, tables, ...options })

/** What the log holds of a table, in order. */
const logged = async (location: string, from: Pool = pool): Promise<string[]> =>
  (await loggedIn(from, location)).map(({ operation, key, oldKey }) => {
    const [was, is] = [oldKey, key].map((one) => Object.values(one ?? {}).join('/'))
    return `${operation} ${was ? `${was}>` : ''}${is}`.trim()
  })

it('sees COPY, and what MERGE does to each row', async () => {
  await pool.query('CREATE TABLE copied (id int PRIMARY KEY, v text)')
  await using input = inputOn(['copied'])
  await input.install()
  await pool.query(`COPY copied FROM PROGRAM 'printf "1\\ta\\n2\\tb\\n3\\tc\\n"'`)
  await pool.query(`
    MERGE INTO copied USING (VALUES (1), (2), (4)) AS s (id) ON copied.id = s.id
    WHEN MATCHED AND s.id = 1 THEN UPDATE SET v = 'm' WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'm')`)
  const changes = await logged('public.copied')
  expect(changes.slice(0, 3)).toEqual(['create 1', 'create 2', 'create 3'])
  expect(changes.slice(3).sort()).toEqual(['create 4', 'delete 2', 'update 1'])
})

it('sees every row that a cascade changes, after the change that is its cause', async () => {
  await pool.query(`
    CREATE TABLE mother (id int PRIMARY KEY);
    CREATE TABLE daughter (id int PRIMARY KEY, mother int REFERENCES mother ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE niece (id int PRIMARY KEY, mother int DEFAULT 0 REFERENCES mother ON DELETE SET NULL)`)
  await using input = inputOn(['mother', 'daughter', 'niece'])
  await input.install()
  await pool.query(
    'INSERT INTO mother VALUES (1), (2); INSERT INTO daughter VALUES (10, 1), (20, 2); INSERT INTO niece VALUES (30, 2)',
  )
  await pool.query('TRUNCATE coordination.changes')
  await pool.query('UPDATE mother SET id = 5 WHERE id = 1')
  await pool.query('DELETE FROM mother WHERE id = 2')
  await pool.query('TRUNCATE mother CASCADE')
  const changes = (await loggedIn(pool)).map(({ location, operation, key }) =>
    `${location} ${operation} ${key?.id ?? ''}`.trim(),
  )
  expect(changes.slice(0, 2)).toEqual(['public.mother update 5', 'public.daughter update 10'])
  expect(changes[2]).toBe('public.mother delete 2')
  expect(changes.slice(3, 5).sort()).toEqual(['public.daughter delete 20', 'public.niece update 30'])
  expect(changes.slice(5).sort()).toEqual([
    'public.daughter truncate',
    'public.mother truncate',
    'public.niece truncate',
  ])
})

it('gives what an UPDATE left of more rows than it wrote as deletes, when a trigger drops rows on their way', async () => {
  await pool.query(`
    CREATE TABLE moving (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE moving_a PARTITION OF moving FOR VALUES FROM (0) TO (100);
    CREATE TABLE moving_b PARTITION OF moving FOR VALUES FROM (100) TO (200);
    CREATE FUNCTION refuse_odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.id % 2 = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse_odd BEFORE INSERT ON moving_b FOR EACH ROW EXECUTE FUNCTION refuse_odd();
    INSERT INTO moving SELECT n, n FROM generate_series(1, 6) n`)
  await using input = inputOn(['moving'])
  await input.install()
  // The odd ones among those that move to the other partition are deleted here and never arrive there.
  await pool.query('UPDATE moving SET id = CASE WHEN id <= 2 THEN id ELSE id + 100 END')
  expect((await pool.query('SELECT id FROM moving ORDER BY id')).rows.map(({ id }) => id)).toEqual([1, 2, 104, 106])
  const changes = await logged('public.moving')
  // Rows are paired by key then: one that has changed its key is a delete and a create.
  expect(changes.filter((change) => change.startsWith('update')).sort()).toEqual(['update 1', 'update 2'])
  expect(changes.filter((change) => change.startsWith('delete')).sort()).toEqual([
    'delete 3',
    'delete 4',
    'delete 5',
    'delete 6',
  ])
  expect(changes.filter((change) => change.startsWith('create')).sort()).toEqual(['create 104', 'create 106'])
})

it('captures updates and deletes of rows of 1,600 columns', async () => {
  const columns = Array.from({ length: 1_599 }, (_, i) => `c${i} int`)
  await pool.query(`CREATE TABLE widest (id int PRIMARY KEY, ${columns.join(', ')})`)
  await using input = inputOn(['widest'])
  await input.install()
  await pool.query('INSERT INTO widest (id) VALUES (1), (2)')
  await pool.query(
    'UPDATE widest SET c1598 = id WHERE id = 1; UPDATE widest SET id = id + 10; DELETE FROM widest WHERE id = 12',
  )
  const changes = await logged('public.widest')
  expect(changes.slice(0, 3)).toEqual(['create 1', 'create 2', 'update 1'])
  expect(changes.slice(3, 5).sort()).toEqual(['update 1>11', 'update 2>12'])
  expect(changes.slice(5)).toEqual(['delete 12'])
})

const hugeBytes = process.env.COORDINATION_LONG === '1' ? 300_000_000 : 20_000_000
it(`lets texts of ${hugeBytes / 1_000_000} MB pass, and gives the key of their row`, { timeout: 600_000 }, async () => {
  await pool.query(
    'CREATE TABLE huge (id int PRIMARY KEY, v text, n int); ALTER TABLE huge ALTER v SET STORAGE EXTERNAL',
  )
  await using input = inputOn(['huge'])
  await input.install()
  await pool.query(`INSERT INTO huge VALUES (1, repeat('x', ${hugeBytes}), 1)`)
  await pool.query('UPDATE huge SET n = 2')
  await pool.query(`UPDATE huge SET id = 2, v = repeat('y', ${hugeBytes})`)
  await pool.query('DELETE FROM huge')
  expect(await logged('public.huge')).toEqual(['create 1', 'update 1', 'update 1>2', 'delete 2'])
  const whole = (await loggedIn(pool, 'public.huge')).filter(({ before, after }) => before !== null || after !== null)
  expect(whole).toEqual([])
})

it('follows a handler that sends COMMIT: nothing is lost, and exactly once is what it gave up', async () => {
  await pool.query('CREATE TABLE source (id int PRIMARY KEY); CREATE TABLE seen (id int)')
  await using input = inputOn(['source'], { batchSize: 1 })
  await input.install()
  const stop = new AbortController()
  const running = input.run(
    async (events, { client, attempt }) => {
      await client.query('INSERT INTO seen SELECT unnest($1::int[])', [events.map(({ id }) => Number(id))])
      await client.query('COMMIT')
      if (events.some(({ id }) => id === '2') && attempt === 1) throw new Error('after its own COMMIT')
    },
    { signal: stop.signal },
  )
  await pool.query('INSERT INTO source VALUES (1), (2), (3)')
  const seen = async (): Promise<number[]> =>
    (await pool.query('SELECT id FROM seen ORDER BY id')).rows.map(({ id }) => id)
  await eventually(async () => (await seen()).includes(3))
  stop.abort()
  await running
  expect(await seen()).toEqual([1, 2, 2, 3])
})

describe('on a server with two-phase commit and logical replication', () => {
  it('sees a prepared transaction when it is committed, and not before; one that is rolled back never', async () => {
    await using server = await startPrivatePostgres({
      settings: { max_prepared_transactions: 4, wal_level: 'logical' },
    })
    await using here = await createDatabase(server.url, { label: 'here', template })
    await using there = await createDatabase(server.url, { label: 'there', template })
    await twoPhase(here.pool())
    await replicated(here.pool(), there.pool(), there.url)
  })
})

/** Both take a server of their own, which is most of their time: one server for the two. */
const twoPhase = async (own: Pool): Promise<void> => {
  await own.query('CREATE TABLE prepared (id int PRIMARY KEY)')
  await using input = inputOn(['prepared'], { pool: own, name: 'prepared' })
  await input.install()
  const ids: (string | null)[] = []
  const stop = new AbortController()
  const running = input.run((events) => void ids.push(...events.map(({ id }) => id)), { signal: stop.signal })
  await own.query(`BEGIN; INSERT INTO prepared VALUES (1); PREPARE TRANSACTION 'one'`)
  await own.query(`BEGIN; INSERT INTO prepared VALUES (2); PREPARE TRANSACTION 'two'`)
  await own.query('INSERT INTO prepared VALUES (3)')
  await eventually(() => ids.length === 1, { deadlineMs: 60_000 })
  await own.query(`COMMIT PREPARED 'one'`)
  await own.query(`ROLLBACK PREPARED 'two'`)
  await own.query('INSERT INTO prepared VALUES (4)')
  await eventually(() => ids.length === 3, { deadlineMs: 60_000 })
  stop.abort()
  await running
  // The first was committed after the third, whose number is higher, and was not waited for.
  expect(ids).toEqual(['3', '1', '4'])
}

const replicated = async (publisher: Pool, subscriber: Pool, url: string): Promise<void> => {
  for (const side of [publisher, subscriber]) await side.query('CREATE TABLE followed (id int PRIMARY KEY, v text)')
  await using input = inputOn(['followed'], { pool: subscriber, name: 'followed' })
  await input.install()
  await publisher.query(`CREATE PUBLICATION p FOR TABLE followed`)
  await publisher.query(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
  const { rows } = await publisher.query('SELECT current_database() AS name')
  const from = new URL(url)
  const dsn = `host=${from.hostname} port=${from.port} user=${from.username} password=${from.password} dbname=${rows[0].name}`
  // Without the copy, which would show only what is left of these changes where it begins after them.
  await subscriber.query(
    `CREATE SUBSCRIPTION s CONNECTION '${dsn}' PUBLICATION p WITH (create_slot = false, slot_name = 's', copy_data = false)`,
  )
  try {
    // The apply worker fires row triggers only: what was installed before the subscription would miss everything.
    expect((await input.lag()).drift.join()).toContain('install()')
    await input.install()
    expect((await input.lag()).drift).toEqual([])
    await publisher.query(`INSERT INTO followed VALUES (1, 'a'), (2, 'b')`)
    await publisher.query(`UPDATE followed SET id = 7 WHERE id = 1`)
    await publisher.query(`DELETE FROM followed WHERE id = 2`)
    await publisher.query('TRUNCATE followed')
    await eventually(async () => (await logged('public.followed', subscriber)).length === 5, { deadlineMs: 30_000 })
    expect(await logged('public.followed', subscriber)).toEqual([
      'create 1',
      'create 2',
      'update 1>7',
      'delete 2',
      'truncate',
    ])
  } finally {
    await subscriber.query('ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE)').catch(() => {})
    await subscriber.query('DROP SUBSCRIPTION s')
    await eventually(() => publisher.query(`SELECT pg_drop_replication_slot('s')`), { deadlineMs: 60_000 })
  }
}
