import type { Statement } from '@x/pg-session'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { lagStatement } from '../../src/lag.ts'
import { logStatements } from '../../src/log/statements.ts'
import { upkeepStatements } from '../../src/log/upkeep-statements.ts'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
const { page, latePage, sizedPage } = logStatements('coordination')
const { overdue } = upkeepStatements('coordination')
const rowsOfPage = 100
/** Of these, `lag()` counts as many as it shows. */
const countedUpTo = 10_000
const maxRows = 500
const ofEach = 10_000

interface Plan {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string | undefined
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number | undefined
  readonly Plans?: readonly Plan[] | undefined
}
const plan: z.ZodType<Plan> = z.lazy(() =>
  z.object({
    'Node Type': z.string(),
    'Relation Name': z.string().optional(),
    'Actual Rows': z.number(),
    'Actual Loops': z.number(),
    'Rows Removed by Filter': z.number().optional(),
    Plans: z.array(plan).optional(),
  }),
)

/** Rows of the log that the plan has looked at. */
const looks = (node: Plan): number =>
  (node.Plans ?? []).reduce(
    (sum, below) => sum + looks(below),
    node['Relation Name']?.startsWith('changes') === true
      ? (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops']
      : 0,
  )

const literal = (value: string | number | readonly string[]): string =>
  typeof value === 'object' ? `'{${value.join(',')}}'` : typeof value === 'number' ? `${value}` : `'${value}'`

/** One transaction has a log's early numbers and commits last: it is what a window finds late. */
let late: string
let others: { firstSeq: string; lastSeq: string; fromXid: string; untilXid: string }
let client: Client

beforeAll(async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'plans' })
  await input.install()
  const insert = `INSERT INTO orders (customer, cents) SELECT 'c', n FROM generate_series(1, ${ofEach}) n`
  await pool.query(insert)
  await pool.query('ANALYZE coordination.changes')
  client = await database.client()
  await client.query('BEGIN')
  await client.query(insert)
  late = (await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid')).rows[0]?.xid ?? ''
  await pool.query(insert)
  await client.query('COMMIT')
  const { rows } = await pool.query<typeof others>(
    `SELECT (max(seq) - $1::int)::text AS "firstSeq", max(seq)::text AS "lastSeq", max(xid)::text AS "fromXid",
            (max(xid)::text::bigint + 1)::text AS "untilXid" FROM coordination.changes`,
    [ofEach],
  )
  if (rows[0] !== undefined) others = rows[0]
})

const range = () => [
  others.firstSeq,
  others.lastSeq,
  others.fromXid,
  others.untilXid,
  [],
  1,
  ['public.orders'],
  rowsOfPage,
]
const statements: readonly (readonly [string, Statement, () => (string | number | readonly string[])[]])[] = [
  ['a page', page, () => [...range(), 10_000]],
  ['a page with late transactions', latePage, () => [...range(), 10_000, [late], '0']],
  ['a page with a limit of bytes', sizedPage, () => [...range(), 1_000_000, [late], '0']],
]

/** The plan of a statement, as it was carried out. */
const carriedOut = async ({ text }: Statement, values: (string | number | readonly string[])[], mode: string) => {
  await client.query(`DEALLOCATE ALL; SET plan_cache_mode = ${mode}`)
  await client.query(`PREPARE looked_at AS ${text}`)
  const { rows } = await client.query<Record<string, unknown>>(
    `EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looked_at (${values.map(literal).join(', ')})`,
  )
  return z.tuple([z.object({ Plan: plan })]).parse(rows[0]?.['QUERY PLAN'])[0].Plan
}

for (const mode of ['force_custom_plan', 'force_generic_plan']) {
  for (const [what, statement, values] of statements) {
    it(`looks at no more rows than ${what} holds, whatever the statistics say (${mode})`, async () => {
      const root = await carriedOut(statement, values(), mode)
      expect(root['Actual Rows']).toBe(rowsOfPage)
      // Of the window's range, and of the late transaction: one page each at the most, and a row too many of each child.
      expect(looks(root)).toBeLessThanOrEqual(3 * rowsOfPage)
    })
  }

  it(`counts what an input is behind up to a bound, and looks at no more of the log than that (${mode})`, async () => {
    const at = (snapshot: string, lo: string) =>
      client.query(
        `UPDATE coordination.cursors SET snap_prev = $1::pg_snapshot, lo = $2, max_rows = ${maxRows}, max_age_ms = 1 WHERE name = 'plans'`,
        [snapshot, lo],
      )
    const lag = lagStatement('coordination')
    // Everything is still to come; or of all that is, the late transaction alone.
    for (const [snapshot, lo] of [
      ['3:3:', '0'],
      [`${late}:${others.untilXid}:${late}`, others.lastSeq],
    ] as const) {
      await at(snapshot, lo)
      expect(looks(await carriedOut(lag, ['plans'], mode))).toBeLessThanOrEqual(countedUpTo + rowsOfPage)
      const root = await carriedOut(overdue, ['plans'], mode)
      expect(root['Actual Rows']).toBe(1)
      // Once to count them, once for the age of the oldest thousand.
      expect(looks(root)).toBeLessThanOrEqual(maxRows + 1_000 + rowsOfPage)
    }
  })
}
