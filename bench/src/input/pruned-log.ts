import { setTimeout as delay } from 'node:timers/promises'
import type { Contender } from '../benchmark.ts'
import { fill } from './consume.ts'

/** The target is stated for ten million, which take a few minutes. */
export const loggedRows = Number(process.env.BENCH_INPUT_ROWS ?? 5_000_000)
const piece = 250_000
const blockRows = 1 << 20

/** F8: the log is filled, handled and pruned over and over. It has no second round to warm up for. */
export const prunedLog: Contender = {
  async open(surroundings) {
    const { pool, input } = await fill(surroundings)
    await input.seek('now')
    return {
      async round() {
        const stop = new AbortController()
        let seen = 0
        const running = input.run(
          (batch) => {
            // The table is emptied now and then, which is an event too.
            for (const { operation, after } of batch) if (operation === 'create' && after !== null) seen += 1
          },
          { signal: stop.signal },
        )
        const rates: number[] = []
        let largestBytes = 0
        let bytesOfRow = 0
        for (let logged = 0; logged < loggedRows; logged += piece) {
          await pool.query(
            `INSERT INTO f3_things (name, price) SELECT 'thing ' || n, n FROM generate_series(1, ${piece}) n`,
          )
          const startedAt = performance.now()
          while (seen < logged + piece) await delay(2)
          rates.push(piece / ((performance.now() - startedAt) / 1_000))
          const { logBytes } = await input.lag()
          if (logged === 0) bytesOfRow = logBytes / (piece + 100_000)
          largestBytes = Math.max(largestBytes, logBytes)
          if (logged % 1_000_000 === 0) await pool.query('TRUNCATE f3_things')
        }
        stop.abort()
        await running
        const part = Math.max(1, Math.floor(rates.length / 4))
        const median = (values: number[]): number =>
          values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
        const [first, last] = [median(rates.slice(0, part)), median(rates.slice(-part))]
        return {
          rows: loggedRows,
          firstPerSecond: first,
          lastPerSecond: last,
          lastOverFirst: last / first,
          largestLogMiB: largestBytes / 1_048_576,
          largestLogBlocks: largestBytes / (bytesOfRow * blockRows),
        }
      },
      async close() {
        await input.close()
        await pool.end()
      },
    }
  },
}
