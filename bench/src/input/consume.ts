import { setTimeout as delay } from 'node:timers/promises'
import { type ChangeHandler, createLeaderInput, type LeaderInput } from '@x/leader-input'
import { createMemoryLocker } from '@x/lock-core/memory'
import { Client, Pool } from 'pg'
import type { Contender, Figures } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { distribution, throughput } from '../measure.ts'
import type { Surroundings } from '../surroundings.ts'

interface Things {
  f3_things: { id: string; name: string; price: string }
}

const events = 100_000
const page = 1_000

/** A log of 100,000 captured inserts, and an input that stands before them. */
const fill = async (
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
    CREATE TABLE IF NOT EXISTS f3_effects (what text)`)
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
          text: `SELECT seq::text, xid::text, relation, operation, key::text, before::text, after::text, at::text
                   FROM coordination.changes c WHERE c.seq > $1 ORDER BY c.seq LIMIT ${page}`,
          values: [last],
          rowMode: 'array',
        })
        for (const row of rows) JSON.parse(String(row[6]))
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

/** Our feed from the start of the log to its end; each row is parsed. */
const consume = (write: boolean): Contender =>
  contender({
    open: (surroundings) => fill(surroundings),
    async round({ input }) {
      await input.seek('start')
      const stop = new AbortController()
      let seen = 0
      const handler: ChangeHandler<Things> = async (batch, { client }) => {
        for (const { after } of batch) if (after === null) throw new Error('expected a row')
        if (write) await client.query('INSERT INTO f3_effects SELECT unnest($1::text[])', [batch.map(({ id }) => id)])
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

export const oursDoingNothing: Contender = consume(false)
export const oursWriting: Contender = consume(true)

const latencySamples = 300

/** F5: from the answer to COMMIT to the call of the handler, at 100 events a second. */
export const commitToHandler = (wakeUps: 'poll' | 'notify'): Contender =>
  contender({
    async open(surroundings) {
      const { pool, input } = await fill(surroundings, { name: `bench-latency-${wakeUps}`, wakeUps })
      const arrived = new Map<string, number>()
      const stop = new AbortController()
      const running = input.run(
        (batch) => {
          for (const { after } of batch) if (after !== null) arrived.set(after.name, performance.now())
        },
        { signal: stop.signal },
      )
      await input.seek('now')
      return { pool, input, arrived, stop, running }
    },
    async round({ pool, arrived }): Promise<Figures> {
      arrived.clear()
      const committed = new Map<string, number>()
      for (let i = 0; i < latencySamples; i += 1) {
        const due = delay(10)
        await pool.query('INSERT INTO f3_things (name, price) VALUES ($1, 1)', [`sample ${i}`])
        committed.set(`sample ${i}`, performance.now())
        await due
      }
      while (arrived.size < latencySamples) await delay(5)
      return distribution([...committed].map(([name, at]) => Math.max(0, (arrived.get(name) ?? 0) - at)))
    },
    async close({ pool, input, stop, running }) {
      stop.abort()
      await running
      await input.uninstall()
      await input.close()
      await pool.end()
    },
  })
