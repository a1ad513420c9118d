import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client, Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { createLeaderInput, type LeaderInput, type LeaderInputOptions } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { type Logged, logged as loggedIn } from '../support/logged.ts'

/** Tables of these tests are made on the way. */
// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
type Anything = Record<string, any>
const database = useDatabase({
  template: {
    name: 'leader-input-empty',
    prepare: async (pool) => {
      await migrate(pool)
    },
  },
})
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
  createLeaderInput<Anything>({ pool, locker: createMemoryLocker(), name: `capture${number}`, tables, ...options })

const logged = (location: string): Promise<Logged[]> => loggedIn(pool, location)
const operations = async (location: string): Promise<string[]> =>
  (await logged(location)).map(({ operation, key }) => `${operation} ${Object.values(key ?? {}).join('/')}`.trim())

describe('shapes of tables', () => {
  it('captures tables without a key, with composite keys, and with names that need quotes', async () => {
    await pool.query(`
      CREATE TABLE keyless (a int);
      CREATE TABLE composite (b text, a int, PRIMARY KEY (b, a));
      CREATE SCHEMA "Odd Schema";
      CREATE TABLE "Odd Schema"."it's ""odd"".table" ("Key Column" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "n" int, "new_rows" int, o text, r text, whole text);
      CREATE TABLE uniquely (a int NOT NULL UNIQUE, b int)`)
    const odd = `Odd Schema.it's "odd".table`
    await using input = inputOn(['keyless', 'composite', odd, 'uniquely'])
    const report = await input.install()
    expect(report.warnings).toEqual([expect.stringContaining('public.keyless has no key')])
    await pool.query(`INSERT INTO keyless VALUES (1); UPDATE keyless SET a = 2; DELETE FROM keyless`)
    await pool.query(
      `INSERT INTO composite VALUES ('x', 1), ('y', 2); UPDATE composite SET a = a + 1; DELETE FROM composite WHERE b = 'x'`,
    )
    await pool.query(`INSERT INTO "Odd Schema"."it's ""odd"".table" ("n", o) VALUES (1, 'o')`)
    await pool.query(`INSERT INTO uniquely VALUES (7, 8)`)
    expect(await operations('public.keyless')).toEqual(['create', 'update', 'delete'])
    expect((await logged('public.composite')).map(({ operation, key, oldKey }) => [operation, key, oldKey])).toEqual([
      ['create', { a: 1, b: 'x' }, null],
      ['create', { a: 2, b: 'y' }, null],
      ['update', { a: 2, b: 'x' }, { a: 1, b: 'x' }],
      ['update', { a: 3, b: 'y' }, { a: 2, b: 'y' }],
      ['delete', { a: 2, b: 'x' }, null],
    ])
    expect(await logged(odd)).toMatchObject([
      { operation: 'create', key: { 'Key Column': expect.stringMatching(/^[0-9a-f-]{36}$/) } },
    ])
    expect(await operations('public.uniquely')).toEqual(['create 7'])
  })

  it('sees each write to a partitioned table once, wherever it goes in, and a truncate of the root as one event', async () => {
    await pool.query(`
      CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
      CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (100);
      CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
      CREATE TABLE parted_b1 PARTITION OF parted_b FOR VALUES FROM (100) TO (200)`)
    await using input = inputOn(['parted'])
    await input.install()
    await pool.query(`INSERT INTO parted VALUES (1, 1), (101, 1)`)
    await pool.query(
      `INSERT INTO parted_a VALUES (2, 1); INSERT INTO parted_b VALUES (102, 1); INSERT INTO parted_b1 VALUES (103, 1)`,
    )
    await pool.query(`UPDATE parted SET id = 150 WHERE id = 1`)
    await pool.query(`UPDATE parted_b SET v = 2 WHERE id = 101`)
    await pool.query(`TRUNCATE parted`)
    await pool.query(`BEGIN; TRUNCATE parted; INSERT INTO parted VALUES (5, 5); TRUNCATE parted_a; COMMIT`)
    expect(await operations('public.parted')).toEqual([
      'create 1',
      'create 101',
      'create 2',
      'create 102',
      'create 103',
      'update 150',
      'update 101',
      'truncate',
      'truncate',
      'create 5',
      'truncate',
    ])
    expect((await logged('public.parted'))[5]).toMatchObject({ oldKey: { id: 1 } })
  })

  it('captures members of classic inheritance row by row, with the columns of the child', async () => {
    await pool.query(
      `CREATE TABLE parent (id int PRIMARY KEY, a int); CREATE TABLE child (b int, PRIMARY KEY (id)) INHERITS (parent)`,
    )
    await using input = inputOn(['parent', 'child'])
    const report = await input.install()
    expect(report.warnings.join()).toContain('public.parent has children (child)')
    await pool.query(`INSERT INTO child VALUES (1, 2, 3); INSERT INTO parent VALUES (2, 2); UPDATE parent SET a = 9`)
    expect((await logged('public.child')).map(({ after }) => JSON.parse(after ?? ''))).toEqual([
      { id: 1, a: 2, b: 3 },
      { id: 1, a: 9, b: 3 },
    ])
    expect(await operations('public.parent')).toEqual(['create 2', 'update 2'])
  })

  it('logs a change before what a row trigger of the table makes of it', async () => {
    await pool.query(`
      CREATE TABLE nested (id int PRIMARY KEY, v int);
      CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.v < 3 THEN UPDATE nested SET v = v + 1 WHERE id = NEW.id; END IF; RETURN NULL; END $$;
      CREATE TRIGGER again AFTER INSERT OR UPDATE ON nested FOR EACH ROW EXECUTE FUNCTION again()`)
    await using input = inputOn(['nested'])
    await input.install()
    await pool.query('INSERT INTO nested VALUES (1, 1)')
    expect(
      (await logged('public.nested')).map(({ operation, after }) => `${operation} ${JSON.parse(after ?? '').v}`),
    ).toEqual(['create 1', 'update 2', 'update 3'])
  })

  it('keeps the order of one row when a foreign key changes it again', async () => {
    await pool.query('CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE)')
    await using input = inputOn(['tree'])
    await input.install()
    await pool.query('INSERT INTO tree VALUES (1, NULL), (2, 1)')
    await pool.query('UPDATE tree SET id = id + 100')
    const changes = (await logged('public.tree')).filter(({ operation }) => operation === 'update')
    const ofSecond = changes
      .map(({ before, after }) => [JSON.parse(before ?? ''), JSON.parse(after ?? '')])
      .filter(([before]) => before.id === 2 || before.id === 102)
    // What was after one change is before the next.
    for (const [i, [before]] of ofSecond.entries()) if (i > 0) expect(before).toEqual(ofSecond[i - 1]?.[1])
    expect(ofSecond.at(-1)?.[1]).toEqual({ id: 102, parent: 101 })
  })

  it('refuses what cannot be captured, by name and with the reason', async () => {
    await pool.query(
      `CREATE UNLOGGED TABLE unlogged (id int); CREATE VIEW looks AS SELECT 1; CREATE TABLE whole (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF whole DEFAULT`,
    )
    await pool.query(`CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
      CREATE TABLE mixed (id int) PARTITION BY RANGE (id); CREATE FOREIGN TABLE mixed_far PARTITION OF mixed DEFAULT SERVER elsewhere; CREATE FOREIGN TABLE far (id int) SERVER elsewhere`)
    for (const [table, reason] of [
      ['unlogged', /unlogged/],
      ['looks', /a view/],
      ['part', /a partition/],
      ['mixed', /foreign table/],
      ['far', /a foreign table/],
      ['nowhere', /no table "nowhere"/],
    ] as const) {
      await using input = inputOn([table])
      await expect(input.install()).rejects.toThrow(reason)
      await expect(input.install()).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    }
  })
})

describe('ways of writing', () => {
  it('sees COPY, upserts, MERGE, cascades, savepoints, prepared transactions and replicas', async () => {
    await pool.query(`
      CREATE TABLE w (id int PRIMARY KEY, v text);
      CREATE TABLE w_child (id int PRIMARY KEY, w int REFERENCES w ON DELETE CASCADE)`)
    await using input = inputOn(['w', 'w_child'])
    await input.install()
    await pool.query(`INSERT INTO w VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET v = 'b'`)
    await pool.query(`INSERT INTO w VALUES (1, 'c'), (2, 'c') ON CONFLICT (id) DO UPDATE SET v = excluded.v`)
    await pool.query(`INSERT INTO w VALUES (1, 'd') ON CONFLICT DO NOTHING`)
    expect((await operations('public.w')).sort()).toEqual(['create 1', 'create 2', 'update 1'])
    await pool.query('TRUNCATE coordination.changes')
    await pool.query(
      `MERGE INTO w USING (VALUES (1, 'm'), (3, 'm')) s (id, v) ON w.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)`,
    )
    expect((await operations('public.w')).sort()).toEqual(['create 3', 'delete 1'])
    await pool.query('TRUNCATE coordination.changes')
    await pool.query(`INSERT INTO w_child VALUES (1, 3); DELETE FROM w WHERE id = 3`)
    expect(await operations('public.w_child')).toEqual(['create 1', 'delete 1'])
    await pool.query('TRUNCATE coordination.changes')
    await pool.query(
      `BEGIN; SAVEPOINT s; INSERT INTO w VALUES (10, ''); ROLLBACK TO s; INSERT INTO w VALUES (11, ''); RELEASE s; COMMIT`,
    )
    await pool.query(
      `SET session_replication_role = replica; INSERT INTO w VALUES (12, ''); RESET session_replication_role`,
    )
    await pool.query(`UPDATE w SET v = 'none' WHERE false`)
    expect(await operations('public.w')).toEqual(['create 11', 'create 12'])
    const [{ same }] = (await pool.query('SELECT count(DISTINCT xid) = 2 AS same FROM coordination.changes')).rows
    expect(same).toBe(true)
  })

  it('goes on through ALTER TABLE, and says when a key column was renamed', async () => {
    await pool.query('CREATE TABLE altered (id int PRIMARY KEY, a int)')
    await using input = inputOn(['altered'])
    await input.install()
    await pool.query(
      `INSERT INTO altered VALUES (1, 1); ALTER TABLE altered ADD b text DEFAULT 'x', ALTER a TYPE bigint; INSERT INTO altered VALUES (2, 2); ALTER TABLE altered DROP a; UPDATE altered SET b = 'y' WHERE id = 2`,
    )
    expect((await logged('public.altered')).map(({ after }) => JSON.parse(after ?? ''))).toEqual([
      { id: 1, a: 1 },
      { id: 2, a: 2, b: 'x' },
      { id: 2, b: 'y' },
    ])
    await pool.query(`ALTER TABLE altered RENAME id TO ident; UPDATE altered SET b = 'z' WHERE ident = 2`)
    expect((await input.lag()).drift.join()).toContain('install()')
    const seen: unknown[] = []
    const stop = new AbortController()
    const running = input.run((events) => void seen.push(...events.map(({ key }) => key)), { signal: stop.signal })
    await eventually(() => seen.length === 4)
    stop.abort()
    await running
    expect(seen).toEqual([{ id: 1 }, { id: 2 }, { id: 2 }, null])
    expect((await input.install()).changed.length).toBeGreaterThan(0)
    expect((await input.lag()).drift).toEqual([])
  })

  it('gives each change the key that the table had when it was made', async () => {
    await pool.query('CREATE TABLE rekeyed (a int PRIMARY KEY, b int NOT NULL, c int)')
    await using input = inputOn(['rekeyed'])
    await input.install()
    await pool.query('INSERT INTO rekeyed VALUES (1, 2, 3)')
    await pool.query('ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (c, b)')
    await input.install()
    await pool.query('UPDATE rekeyed SET c = 4; UPDATE rekeyed SET a = 9')
    const seen: unknown[] = []
    const stop = new AbortController()
    const running = input.run((events) => void seen.push(...events.map(({ id, key, oldKey }) => [id, key, oldKey])), {
      signal: stop.signal,
    })
    await eventually(() => seen.length === 3)
    stop.abort()
    await running
    expect(seen).toEqual([
      ['1', { a: 1 }, null],
      ['["4","2"]', { c: 4, b: 2 }, { c: 3, b: 2 }],
      ['["4","2"]', { c: 4, b: 2 }, null],
    ])
  })

  it('pairs old and new rows by position when keys change places', async () => {
    await pool.query('CREATE TABLE shuffled (id int PRIMARY KEY, v text)')
    await using input = inputOn(['shuffled'])
    await input.install()
    await pool.query(`INSERT INTO shuffled SELECT n, 'row ' || n FROM generate_series(1, 500) n`)
    await pool.query('UPDATE shuffled SET id = -id')
    const updates = (await logged('public.shuffled')).filter(({ operation }) => operation === 'update')
    expect(updates).toHaveLength(500)
    for (const { before, after } of updates)
      expect(JSON.parse(after ?? '')).toEqual({ id: -JSON.parse(before ?? '').id, v: JSON.parse(before ?? '').v })
  })
})

describe('values', () => {
  it('never aborts a write: JSON that jsonb refuses, NaN, infinity, bytea, arrays, ranges, domains, big numbers', async () => {
    await pool.query(`
      CREATE DOMAIN money_of AS numeric(30, 4);
      CREATE TYPE pair AS (a bigint, b text);
      CREATE TABLE ugly (id bigint PRIMARY KEY, j json, jb jsonb, n numeric, f float8, t timestamptz, d date, b bytea, a bigint[], m numeric[], r daterange, money money_of, p pair, s text,
                         g bigint GENERATED ALWAYS AS (id * 2) STORED)`)
    await using input = inputOn(['ugly'])
    await input.install()
    await pool.query(`SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET bytea_output = 'escape'; SET extra_float_digits = 0;
      INSERT INTO ugly VALUES (9007199254740993, '{"a": "\\u0000", "b": 1e400000, "n": 12345678901234567890, "id": 5}', '{"n": 12345678901234567890}', 'NaN', 'Infinity', 'infinity', '-infinity',
        '\\x00ff', '{9007199254740993,1,NULL}', '{1.10,NaN}', '[2024-01-01,2024-02-01)', 12345678901234567890.5, '(9007199254740993,x)', 'quote " and \\ "id":7');
      RESET timezone; RESET datestyle; RESET bytea_output; RESET extra_float_digits`)
    await pool.query(`UPDATE ugly SET t = '2024-01-01 00:00:00+09', n = 1.10`)
    const rows: Anything[] = []
    const stop = new AbortController()
    const running = input.run((events) => void rows.push(...events.map(({ id, key, after }) => ({ id, key, after }))), {
      signal: stop.signal,
    })
    await eventually(() => rows.length === 2)
    stop.abort()
    await running
    expect(rows[0]).toEqual({
      id: '9007199254740993',
      key: { id: '9007199254740993' },
      after: {
        id: '9007199254740993',
        j: { a: '\u0000', b: Number.POSITIVE_INFINITY, n: '12345678901234567890', id: 5 },
        jb: { n: '12345678901234567890' },
        n: 'NaN',
        f: 'Infinity',
        t: 'infinity',
        d: '-infinity',
        b: '\\x00ff',
        a: ['9007199254740993', '1', null],
        m: ['1.10', 'NaN'],
        r: '[2024-01-01,2024-02-01)',
        money: '12345678901234567890.5000',
        p: { a: '9007199254740993', b: 'x' },
        s: 'quote " and \\ "id":7',
        g: '18014398509481986',
      },
    })
    expect(rows[1]?.after).toMatchObject({ n: '1.10', t: '2023-12-31T15:00:00+00:00' })
  })

  it('gives the key and no row for one that is too large, and keeps the order of the others', async () => {
    await pool.query('CREATE TABLE large (id int PRIMARY KEY, v text)')
    await using input = inputOn(['large'])
    await input.install()
    await pool.query(
      `INSERT INTO large VALUES (1, 'small'), (2, (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 32768) n)), (3, repeat('y', 1000))`,
    )
    await pool.query(`UPDATE large SET id = id + 10`)
    await pool.query('DELETE FROM large')
    const events: Anything[] = []
    const stop = new AbortController()
    const running = input.run((batch) => void events.push(...batch), { signal: stop.signal })
    await eventually(() => events.length === 9)
    stop.abort()
    await running
    expect(
      events
        .filter(({ oversize }) => oversize)
        .map(({ operation, id, before, after }) => [operation, id, before, after]),
    ).toEqual([
      ['create', '2', null, null],
      ['update', '12', null, null],
      ['delete', '12', null, null],
    ])
    expect(events.filter(({ operation }) => operation === 'update').map(({ id }) => id)).toEqual(['11', '12', '13'])
  })

  it('keeps of a row the columns that are wanted, and its key besides', async () => {
    await pool.query(`
      CREATE TABLE chosen (id int PRIMARY KEY, a int, b text);
      CREATE TABLE chosen_nested (LIKE chosen INCLUDING ALL);
      CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER nothing AFTER INSERT ON chosen_nested FOR EACH ROW EXECUTE FUNCTION nothing()`)
    const tables = ['chosen', 'chosen_nested']
    await using input = inputOn({ chosen: { columns: ['a'] }, chosen_nested: { columns: ['a'] } })
    await input.install()
    const events: Anything[] = []
    const stop = new AbortController()
    const running = input.run((batch) => void events.push(...batch), { signal: stop.signal })
    for (const table of tables) {
      await pool.query(`INSERT INTO ${table} VALUES (1, 2, 'b'), (2, 3, repeat('x', 600000))`)
      await pool.query(`UPDATE ${table} SET id = 5 WHERE id = 1; DELETE FROM ${table} WHERE id = 5; TRUNCATE ${table}`)
      expect((await logged(`public.${table}`))[0]?.after).toBe('{"a" : 2, "id" : 1}')
    }
    await eventually(() => events.length === 10)
    stop.abort()
    await running
    for (const name of tables)
      expect(
        events
          .filter(({ table }) => table === name)
          .map(({ operation, key, oldKey, before, after, oversize }) => [
            operation,
            key,
            oldKey,
            before,
            after,
            oversize,
          ]),
      ).toEqual([
        ['create', { id: 1 }, null, null, { a: 2 }, false],
        ['create', { id: 2 }, null, null, null, true],
        ['update', { id: 5 }, { id: 1 }, { a: 2 }, { a: 2 }, false],
        ['delete', { id: 5 }, null, { a: 2 }, null, false],
        ['truncate', null, null, null, null, false],
      ])
  })

  it('captures 1,600 columns, and columns named like our own', async () => {
    await pool.query(`CREATE TABLE wide (id int PRIMARY KEY, ${Array.from({ length: 1_599 }, (_, i) => `c${i} int`).join(', ')});
      CREATE TABLE names (keys int PRIMARY KEY, "TG_ARGV" int, tg_argv int, source text, kept int, mark int, changes int, seq int, n int, o int, r int, old_rows int, new_rows int, before int, after int)`)
    await using input = inputOn(['wide', 'names'])
    await input.install()
    await pool.query('INSERT INTO wide (id, c1598) VALUES (1, 7)')
    await pool.query(
      `INSERT INTO names (keys, n) VALUES (1, 2), (2, 3); UPDATE names SET n = 5 WHERE keys = 1; UPDATE names SET o = 1; DELETE FROM names`,
    )
    expect(Object.keys(JSON.parse((await logged('public.wide'))[0]?.after ?? ''))).toHaveLength(1_600)
    expect(await operations('public.names')).toEqual([
      'create 1',
      'create 2',
      'update 1',
      'update 2',
      'update 1',
      'delete 2',
      'delete 1',
    ])
  })
})

describe('installation', () => {
  it('is idempotent, says what it changed, keeps what another input needs, and takes everything away again', async () => {
    await pool.query('CREATE TABLE shared (id int PRIMARY KEY, a int, b int)')
    await using first = inputOn({ shared: { operations: ['create'], columns: ['id', 'a'] } }, { name: 'first' })
    const created = await first.install()
    expect(created.created).toEqual([
      'cursor first',
      'trigger 0_coordination_create on public.shared',
      'input first on public.shared',
    ])
    const again = await first.install()
    expect({ ...again, unchanged: again.unchanged.length }).toEqual({
      created: [],
      changed: [],
      removed: [],
      unchanged: 3,
      warnings: [],
    })
    await pool.query('INSERT INTO shared VALUES (1, 2, 3); DELETE FROM shared')
    expect(
      (await logged('public.shared')).map(({ operation, after }) => [operation, after && JSON.parse(after)]),
    ).toEqual([['create', { id: 1, a: 2 }]])

    await using second = inputOn(['shared'], { name: 'second' })
    const report = await second.install()
    expect(report.changed).toEqual(['trigger 0_coordination_create on public.shared'])
    expect(report.created).toContain('trigger 0_coordination_delete on public.shared')
    await pool.query('INSERT INTO shared VALUES (2, 2, 3)')
    expect(JSON.parse((await logged('public.shared')).at(-1)?.after ?? '')).toEqual({ id: 2, a: 2, b: 3 })
    const seen: unknown[] = []
    const stop = new AbortController()
    const running = first.run((events) => void seen.push(...events.map(({ operation, after }) => [operation, after])), {
      signal: stop.signal,
    })
    await eventually(() => seen.length === 2)
    stop.abort()
    await running
    expect(seen).toEqual([
      ['create', { id: 1, a: 2 }],
      ['create', { id: 2, a: 2 }],
    ])

    expect((await second.uninstall()).removed).toContain('trigger 0_coordination_delete on public.shared')
    expect((await first.uninstall()).removed).toEqual([
      'trigger 0_coordination_create on public.shared',
      'input first on public.shared',
      'cursor first',
    ])
    expect(
      (
        await pool.query(
          `SELECT count(*)::int AS n FROM pg_trigger WHERE tgname LIKE '0\\_%' AND tgrelid = 'shared'::regclass`,
        )
      ).rows,
    ).toEqual([{ n: 0 }])
    await expect(first.run(() => {})).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
  })

  it('is safe when many replicas do it at once, and waits for busy tables without holding others up for long', async () => {
    await pool.query('CREATE TABLE busy (id int PRIMARY KEY)')
    const writer: Client = await database.client()
    await writer.query('BEGIN; INSERT INTO busy VALUES (1)')
    const inputs = Array.from({ length: 6 }, () => inputOn(['busy'], { name: 'many' }))
    const installed = Promise.all(inputs.map((input) => input.install()))
    await eventually(
      async () =>
        (
          await pool.query(
            `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`,
          )
        ).rows.length > 0,
    )
    await writer.query('COMMIT')
    const reports = await installed
    expect(reports.flatMap(({ created }) => created).filter((line) => line.startsWith('trigger'))).toHaveLength(4)
    await Promise.all(inputs.map((input) => input.close()))
    await writer.end()
  })

  it('says so when a trigger is disabled or gone, and covers new partitions by itself', async () => {
    await pool.query(
      `CREATE TABLE drifting (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE drifting_a PARTITION OF drifting FOR VALUES FROM (0) TO (10)`,
    )
    await using input = inputOn(['drifting'])
    await input.install()
    await pool.query('CREATE TABLE drifting_b PARTITION OF drifting FOR VALUES FROM (10) TO (20)')
    // Before anybody leads, who might have put it right already.
    expect((await input.lag()).drift.join()).toContain('0_coordination_create on public.drifting_b is missing')
    const stop = new AbortController()
    const running = input.run(() => {}, { signal: stop.signal })
    await eventually(async () => (await input.lag()).drift.length === 0)
    await pool.query('INSERT INTO drifting_b VALUES (11)')
    expect(await operations('public.drifting')).toEqual(['create 11'])
    await pool.query('ALTER TABLE drifting DISABLE TRIGGER "0_coordination_delete"')
    await eventually(() => input.health().drift.join().includes('0_coordination_delete on public.drifting is disabled'))
    stop.abort()
    await running
  })

  it('covers new partitions with the one client of a pool that has no other, and goes on', async () => {
    await pool.query(`CREATE TABLE lone (id int PRIMARY KEY) PARTITION BY LIST (id);
      CREATE TABLE lone_1 PARTITION OF lone FOR VALUES IN (1)`)
    await using input = inputOn(['lone'], { pool: database.pool({ max: 1 }) })
    await input.install()
    const ids: (string | null)[] = []
    const stop = new AbortController()
    const running = input.run((events) => void ids.push(...events.map((event) => event.id)), { signal: stop.signal })
    await eventually(() => input.health().status === 'leading')
    await pool.query('CREATE TABLE lone_2 PARTITION OF lone FOR VALUES IN (2)')
    await eventually(
      async () =>
        (await pool.query(`SELECT FROM pg_trigger WHERE tgrelid = 'lone_2'::regclass AND NOT tgisinternal`))
          .rowCount === 4,
    )
    await pool.query('INSERT INTO lone_2 VALUES (2)')
    await eventually(() => ids.includes('2'))
    stop.abort()
    await running
  })

  it('leaves the triggers of another installation alone, whose name begins with ours', async () => {
    await migrate(pool, { schema: 'coordination_two' })
    await pool.query('CREATE TABLE shared_by_two (id int PRIMARY KEY)')
    await using other = inputOn(['shared_by_two'], { name: 'other', schema: 'coordination_two' })
    await using input = inputOn(['shared_by_two'], { name: 'beside-other' })
    await other.install()
    expect(await input.install()).toMatchObject({ removed: [] })
    expect((await other.lag()).drift).toEqual([])
    await other.uninstall()
    await pool.query('DROP SCHEMA coordination_two CASCADE')
  })

  it('takes patterns, which never match our own tables', async () => {
    await pool.query(
      `CREATE SCHEMA app; CREATE TABLE app.one (id int PRIMARY KEY); CREATE TABLE app.two (id int PRIMARY KEY)`,
    )
    await using input = inputOn({ patterns: ['app.*', 'coordination.*', '*.changes'] })
    const { created } = await input.install()
    expect(created.filter((line) => line.startsWith('input'))).toEqual([
      `input capture${number} on app.one`,
      `input capture${number} on app.two`,
    ])
    await pool.query('CREATE TABLE app.three (id int PRIMARY KEY)')
    expect((await input.lag()).drift).toEqual(['app.three is wanted but not installed: call install()'])
  })
})
