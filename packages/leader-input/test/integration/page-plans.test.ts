import type { Statement } from '@x/pg-session'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { logStatements } from '../../src/log/statements.ts'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
const { page, latePage, sizedPage } = logStatements('coordination')
const rowsOfPage = 100
const ofEach = 10_000

interface Plan {
  readonly 'Node Type': string
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number | undefined
  readonly Plans?: readonly Plan[] | undefined
}
const plan: z.ZodType<Plan> = z.lazy(() =>
  z.object({
    'Node Type': z.string(),
    'Actual Rows': z.number(),
    'Actual Loops': z.number(),
    'Rows Removed by Filter': z.number().optional(),
    Plans: z.array(plan).optional(),
  }),
)

/** Rows of tables that the plan has looked at. */
const looks = (node: Plan): number =>
  (node.Plans ?? []).reduce(
    (sum, below) => sum + looks(below),
    /^(Index|Seq|Bitmap Heap)/.test(node['Node Type'])
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

for (const [what, { text }, values] of statements) {
  for (const mode of ['force_custom_plan', 'force_generic_plan']) {
    it(`looks at no more rows than ${what} holds, whatever the statistics say (${mode})`, async () => {
      await client.query(`DEALLOCATE ALL; SET plan_cache_mode = ${mode}`)
      await client.query(`PREPARE looked_at AS ${text}`)
      const { rows } = await client.query<Record<string, unknown>>(
        `EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looked_at (${values().map(literal).join(', ')})`,
      )
      const [{ Plan: root }] = z.tuple([z.object({ Plan: plan })]).parse(rows[0]?.['QUERY PLAN'])
      expect(root['Actual Rows']).toBe(rowsOfPage)
      // Of the window's range, and of the late transaction: one page each at the most, and a row too many of each child.
      expect(looks(root)).toBeLessThanOrEqual(3 * rowsOfPage)
    })
  }
}
