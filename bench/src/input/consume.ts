import { type ChangeHandler, createLeaderInput, type LeaderInput } from '@x/leader-input'
import { createMemoryLocker } from '@x/lock-core/memory'
import { Client, Pool } from 'pg'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { throughput } from '../measure.ts'
import type { Surroundings } from '../surroundings.ts'

/** The table that is followed. */
export interface Things {
  f3_things: { id: string; name: string; price: string }
}

export const events = 100_000
const page = 1_000

/** A log of 100,000 captured inserts, and an input that stands before them. */
export const fill = async (
  { url }: Surroundings,
  options: object = {},
): Promise<{ pool: Pool; input: LeaderInput<Things> }> => {
  const pool = new Pool({ connectionString: url, max: 6 })
  const input = createLeaderInput<Things>({
    pool,
    locker: createMemoryLocker(),
    name: 'bench-consume',
    tables: ['f3_things'],
    batchSize: page,
    ...options,
  })
  await pool.query(`CREATE TABLE IF NOT EXISTS f3_things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, price numeric);
    CREATE TABLE IF NOT EXISTS f3_effects (what text);
    CREATE TABLE IF NOT EXISTS f3_totals (id int PRIMARY KEY, handled bigint)`)
  await input.install()
  // In this order: the first is an event itself.
  await pool.query('TRUNCATE f3_things, f3_effects')
  await pool.query('TRUNCATE coordination.changes')
  await pool.query(`INSERT INTO f3_things (name, price) SELECT 'thing ' || n, n FROM generate_series(1, ${events}) n`)
  await pool.query('ANALYZE coordination.changes')
  return { pool, input }
}

/** The floor of F3: the same rows, page by page, parsed, with the same driver. */
export const barePagedRead: Contender = contender({
  async open(surroundings) {
    const { pool, input } = await fill(surroundings)
    await input.close()
    const client = new Client({ connectionString: surroundings.url })
    await client.connect()
    return { pool, client }
  },
  async round({ client }) {
    return throughput(events, async () => {
      let last = '0'
      let seen = 0
      for (;;) {
        const { rows } = await client.query<unknown[]>({
          name: 'bench_page',
          text: `SELECT seq::text, xid::text, source::text, operation, before::text, after::text, at::text
                   FROM coordination.changes c WHERE c.seq > $1 ORDER BY c.seq LIMIT ${page}`,
          values: [last],
          rowMode: 'array',
        })
        for (const row of rows) JSON.parse(String(row[5]))
        seen += rows.length
        last = String(rows.at(-1)?.[0] ?? last)
        if (rows.length < page) break
      }
      if (seen !== events) throw new Error(`expected ${events} rows, got ${seen}`)
    })
  },
  async close({ pool, client }) {
    await client.end()
    await pool.end()
  },
})

type Write = (
  batch: Parameters<ChangeHandler<Things>>[0],
  client: Parameters<ChangeHandler<Things>>[1]['client'],
) => Promise<unknown>

/** Our feed from the start of the log to its end; each row is parsed. */
const consume = (write: Write | null): Contender =>
  contender({
    open: (surroundings) => fill(surroundings),
    async round({ input }) {
      await input.seek('start')
      const stop = new AbortController()
      let seen = 0
      const handler: ChangeHandler<Things> = async (batch, { client }) => {
        for (const { after } of batch) if (after === null) throw new Error('expected a row')
        if (write !== null) await write(batch, client)
        seen += batch.length
        if (seen === events) stop.abort()
      }
      return throughput(events, () => input.run(handler, { signal: stop.signal }))
    },
    async close({ pool, input }) {
      await input.close()
      await pool.end()
    },
  })

export const oursDoingNothing: Contender = consume(null)
/** One total, as a projection keeps it. */
export const oursWriting: Contender = consume(async (batch, client) => {
  await client.query(
    `INSERT INTO f3_totals AS t (id, handled) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET handled = t.handled + excluded.handled`,
    [batch.length],
  )
})
/** A row for each event. */
export const oursWritingAll: Contender = consume(async (batch, client) => {
  await client.query('INSERT INTO f3_effects SELECT unnest($1::text[])', [batch.map(({ id }) => id)])
})
