import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { throughput } from '../measure.ts'
import { events, fill } from './consume.ts'
import type { Beside } from './latency.ts'

const rowsOfWriter = 500_000
/** For how long the writer is open before anything is measured; the target is stated for 60 s. */
const openForMs = Number(process.env.BENCH_INPUT_OPEN_MS ?? 1_000)

/** A transaction that has written 500,000 captured rows and stays open. */
export const longWriter = (url: string): Beside => {
  return async () => {
    const writer = new Client({ connectionString: url })
    await writer.connect()
    await writer.query('BEGIN')
    await writer.query(
      `INSERT INTO f3_things (name, price) SELECT 'of the writer', n FROM generate_series(1, ${rowsOfWriter}) n`,
    )
    await delay(openForMs)
    return async () => {
      await writer.query('ROLLBACK')
      await writer.end()
    }
  }
}

/** F6: consumption of what others commit, beside the writer or without it. */
export const consumptionBeside = (isBeside: boolean): Contender =>
  contender({
    async open(surroundings) {
      return { ...(await fill(surroundings)), url: surroundings.url }
    },
    async round({ pool, input, url }) {
      await pool.query('TRUNCATE f3_things')
      await pool.query('TRUNCATE coordination.changes')
      const end = isBeside ? await longWriter(url)(pool) : null
      try {
        // Where a leader that has been at work all the time is, too.
        await input.seek('now')
        await pool.query(
          `INSERT INTO f3_things (name, price) SELECT 'thing ' || n, n FROM generate_series(1, ${events}) n`,
        )
        await pool.query('ANALYZE coordination.changes')
        // What the writer has left to the disk is not what is measured.
        await pool.query('CHECKPOINT')
        const stop = new AbortController()
        let seen = 0
        return await throughput(events, () =>
          input.run(
            (batch) => {
              for (const { after } of batch) if (after === null) throw new Error('expected a row')
              seen += batch.length
              if (seen === events) stop.abort()
            },
            { signal: stop.signal },
          ),
        )
      } finally {
        await end?.()
      }
    },
    async close({ pool, input }) {
      await input.close()
      await pool.end()
    },
  })
