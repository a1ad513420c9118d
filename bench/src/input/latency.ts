import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Contender, Figures } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { distribution } from '../measure.ts'
import { fill } from './consume.ts'

const samples = 300

/** What goes on beside the events, in a round: begins it, and gives what ends it. */
export type Beside = (pool: Pool) => Promise<() => Promise<void>>

/** From the answer to COMMIT to the call of the handler, at 100 events a second. */
export const commitToHandler = (name: string, wakeUps: 'poll' | 'notify', beside?: Beside): Contender =>
  contender({
    async open(surroundings) {
      const { pool, input } = await fill(surroundings, { name: `bench-${name}`, wakeUps })
      await input.seek('now')
      return { pool, input }
    },
    async round({ pool, input }): Promise<Figures> {
      const arrived = new Map<string, number>()
      const stop = new AbortController()
      const end = await beside?.(pool)
      // An input of its own at a time: the others of this row would handle the same events on the same core.
      await input.seek('now')
      const running = input.run(
        (batch) => {
          for (const { after } of batch) if (after !== null) arrived.set(after.name, performance.now())
        },
        { signal: stop.signal },
      )
      const insert = (name: string): Promise<unknown> =>
        pool.query({
          name: 'bench_sample',
          text: 'INSERT INTO f3_things (name, price) VALUES ($1, 1)',
          values: [name],
        })
      try {
        // It leads, and its statements are prepared, before anything is measured.
        for (let i = 0; i < 20; i += 1) await Promise.all([insert(`first ${i}`), delay(10)])
        while (arrived.size < 20) await delay(5)
        arrived.clear()
        const committed = new Map<string, number>()
        for (let i = 0; i < samples; i += 1) {
          const due = delay(10)
          await insert(`sample ${i}`)
          committed.set(`sample ${i}`, performance.now())
          await due
        }
        while (arrived.size < samples) await delay(5)
        return distribution([...committed].map(([name, at]) => Math.max(0, (arrived.get(name) ?? 0) - at)))
      } finally {
        stop.abort()
        await running
        await end?.()
      }
    },
    async close({ pool, input }) {
      await input.uninstall()
      await input.close()
      await pool.end()
    },
  })
