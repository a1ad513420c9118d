/** The text of a row and of a key is the same whoever writes, and whichever way through the capture functions a row takes. */
import { createMemoryLocker } from '@x/lock-core/memory'
import { useDatabase } from '@x/testkit/vitest'
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import { createLeaderInput, type LeaderInputOptions } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { logged } from '../support/logged.ts'

type Rows = Record<string, Record<string, unknown>>

const database = useDatabase({
  template: { name: 'leader-input-empty', prepare: async (pool) => void (await migrate(pool)) },
})

/** What a session may have set, besides what the functions set themselves. */
const settings = {
  timezone: ['Asia/Tokyo', 'Europe/London', 'Africa/Monrovia', '<+0330>-3:30'],
  datestyle: ['German', 'SQL, DMY', 'Postgres, YMD', 'ISO, DMY'],
  extra_float_digits: ['-15', '0', '3'],
  bytea_output: ['escape'],
  intervalstyle: ['sql_standard', 'postgres_verbose', 'iso_8601'],
  search_path: ['', 'public', 'pg_catalog, public'],
  standard_conforming_strings: ['off'],
  array_nulls: ['off'],
  transform_null_equals: ['on'],
  plan_cache_mode: ['force_custom_plan', 'force_generic_plan'],
} as const
type Setting = readonly [name: string, value: string]
const each: readonly Setting[] = Object.entries(settings).flatMap(([name, values]) =>
  values.map((value) => [name, value] as const),
)

const keyTypes = {
  timestamptz: `'2024-07-01 12:00:00.5+00'::timestamptz + make_interval(days => n)`,
  float8: '0.1::float8 + n * 0.2::float8',
  interval: 'make_interval(years => n, months => 2, days => -3, secs => 14706.7)',
  bytea: `decode('00ff0' || n, 'hex')`,
  tstzrange: `tstzrange('1970-06-01 00:00:00+00', '2024-07-01 00:00:00+00'::timestamptz + make_interval(days => n))`,
} as const

/** Columns whose text depends on some setting of the session; the third row has a text that is looked at twice. */
const values = `
  '2024-01-02 03:04:05.6+00'::timestamptz AS t, '1971-05-06 07:08:09+00'::timestamptz::timestamptz AS old, '2024-12-11'::date AS d,
  make_interval(years => 1, days => -2, secs => 3.5) AS i, 0.1::float4 AS f, 1::float8 / 3 AS g, decode('005c75ff', 'hex') AS b,
  tsrange('2024-12-11 10:09:08', NULL) AS r, ARRAY['2024-12-11'::date, NULL] AS ds, point(0.1, 1::float8 / 3) AS p,
  'public.source'::regclass AS c, CASE n WHEN 3 THEN E'C:\\\\users' ELSE 'a' END AS s`

/** Each way of capture by name, with the tables that take it. */
const tables: LeaderInputOptions<Rows>['tables'] = {
  ...Object.fromEntries(Object.keys(keyTypes).map((type) => [`of_${type}`, {}])),
  composite: {},
  keyless: {},
  chosen: { columns: ['n', 't', 'i', 'g', 'b', 'r', 's'] },
  by_row: {},
}

beforeAll(async () => {
  const keys = Object.entries(keyTypes).map(([type, value]) => `(${value})::${type} AS ${type}`)
  const pool = database.pool()
  await pool.query(`
    CREATE TABLE source (n int);
    CREATE TABLE kinds AS SELECT n, ${keys.join(', ')}, ${values} FROM generate_series(1, 3) n;
    ${Object.keys(keyTypes)
      .map((type) => `CREATE TABLE of_${type} (LIKE kinds, PRIMARY KEY (${type}));`)
      .join('\n')}
    CREATE TABLE composite (LIKE kinds, PRIMARY KEY (float8, timestamptz));
    CREATE TABLE keyless (LIKE kinds);
    CREATE TABLE chosen (LIKE kinds, PRIMARY KEY (timestamptz));
    CREATE TABLE by_row (LIKE kinds, PRIMARY KEY (timestamptz));
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER nothing AFTER INSERT ON by_row FOR EACH ROW EXECUTE FUNCTION nothing()`)
  await using input = createLeaderInput<Rows>({ pool, locker: createMemoryLocker(), name: 'formats', tables })
  await input.install()
})

/** What the log holds, in no order, of the same writes in a session of its own with these settings; nothing of it stays. */
const loggedUnder = async (chosen: readonly Setting[]): Promise<string[]> => {
  const client = await database.client()
  try {
    await client.query('BEGIN')
    for (const [name, value] of chosen) await client.query(`SELECT set_config($1, $2, true)`, [name, value])
    for (const table of Object.keys(tables))
      await client.query(`
        INSERT INTO public.${table} SELECT * FROM public.kinds WHERE n = 1;
        INSERT INTO public.${table} SELECT * FROM public.kinds WHERE n > 1;
        UPDATE public.${table} SET d = d + 1 WHERE n = 1;
        UPDATE public.${table} SET timestamptz = timestamptz + make_interval(days => 10);
        DELETE FROM public.${table} WHERE n = 3;
        DELETE FROM public.${table}`)
    const { rows } = await client.query(
      'SELECT source::text, operation, before::text, after::text FROM coordination.changes',
    )
    return rows.map((row) => JSON.stringify(row)).sort()
  } finally {
    await client.query('ROLLBACK')
    await client.end()
  }
}

it('logs byte for byte the same under each setting that a session may have', { timeout: 60_000 }, async () => {
  const usual = await loggedUnder([])
  // Six statements: 1 + 2 rows, 1 and 3 of them updated, 1 + 2 deleted.
  expect(usual).toHaveLength(Object.keys(tables).length * 10)
  for (const setting of each) expect(await loggedUnder([setting]), setting.join(' = ')).toEqual(usual)
  const some = fc.record(
    Object.fromEntries(Object.entries(settings).map(([name, of]) => [name, fc.constantFrom(...of)])),
    { requiredKeys: [] },
  )
  await fc.assert(
    fc.asyncProperty(some, async (chosen) => {
      const set = Object.entries(chosen).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, value] as const],
      )
      expect(await loggedUnder(set)).toEqual(usual)
    }),
    { numRuns: 10, ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }) },
  )
})

it('logs what to_json makes of a row, whatever its text, alone and among others', { timeout: 60_000 }, async () => {
  const pool = database.pool()
  await pool.query(
    'CREATE TABLE texts (id text PRIMARY KEY, s text, j json); CREATE TABLE many (LIKE texts, n int, PRIMARY KEY (id, n))',
  )
  await using input = createLeaderInput<Rows>({
    pool,
    locker: createMemoryLocker(),
    name: 'texts',
    tables: ['texts', 'many'],
  })
  await input.install()
  const piece = fc.constantFrom(
    '\\',
    '\\u',
    '\\u0000',
    '\\ud800',
    '"',
    '\u0001',
    '\n',
    '{"id":',
    'é',
    '😀',
    'C:\\users',
  )
  const text = fc
    .array(fc.oneof(piece, fc.string({ unit: 'grapheme' })), { maxLength: 4 })
    .map((pieces) => pieces.join('').replaceAll('\0', ''))
  const document = fc.constantFrom(
    'null',
    '{"id":"\\u0000"}',
    '["\\ud800"]',
    '"\\u00e9"',
    '"\\\\u0000"',
    '1e400000',
    '{"id": 1, "id": 2}',
  )
  const rows = fc.uniqueArray(fc.record({ id: text, s: text, j: document }), {
    selector: ({ id }) => id,
    minLength: 1,
    maxLength: 4,
  })
  await fc.assert(
    fc.asyncProperty(rows, async (written) => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        await client.query(
          'CREATE TEMP TABLE given ON COMMIT DROP AS SELECT id, s, j FROM unnest($1::text[], $2::text[], $3::text[]::json[]) AS g (id, s, j)',
          [written.map(({ id }) => id), written.map(({ s }) => s), written.map(({ j }) => j)],
        )
        for (const { id } of written) await client.query('INSERT INTO texts SELECT * FROM given WHERE id = $1', [id])
        await client.query(
          'DELETE FROM texts; INSERT INTO texts SELECT * FROM given; INSERT INTO many SELECT *, 1 FROM given',
        )
        await client.query(`UPDATE texts SET id = id || '!'`)
        const changes = await logged(client)
        const { rows: given } = await client.query(`
          SELECT g.id, to_json(g.*)::text AS one, to_json(n.*)::text AS numbered, to_json(u.*)::text AS updated
            FROM given g, LATERAL (SELECT g.*, 1 AS n) n, LATERAL (SELECT g.id || '!' AS id, g.s, g.j) u`)
        const expected = given.flatMap(({ id, one, numbered, updated }) => {
          const create = ['public.texts', 'create', { id }, null, null, one]
          return [
            create,
            create,
            ['public.texts', 'delete', { id }, null, one, null],
            ['public.texts', 'update', { id: `${id}!` }, { id }, one, updated],
            ['public.many', 'create', { id, n: 1 }, null, null, numbered],
          ]
        })
        const inNoOrder = (lists: readonly unknown[]): string[] => lists.map((list) => JSON.stringify(list)).sort()
        expect(inNoOrder(changes.map((change) => Object.values(change)))).toEqual(inNoOrder(expected))
      } finally {
        await client.query('ROLLBACK')
        client.release()
      }
    }),
    { numRuns: 60, ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }) },
  )
})
