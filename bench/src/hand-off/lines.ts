import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { z } from 'zod'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { distribution } from '../measure.ts'

const processes = 4
const roundMs = 1_500
const report = z.array(z.tuple([z.enum(['granted', 'releasing']), z.string()]))

/** From the beginning of a release to the next grant, in whichever of four processes: `waiters` stand in line all the time. */
export const handOffs = (waiters: number): Contender =>
  contender({
    async open({ url }) {
      const children = await Promise.all(
        Array.from({ length: Math.min(processes, waiters) }, async (_, index) => {
          const share = Math.floor(waiters / processes) + (index < waiters % processes ? 1 : 0)
          const child = fork(new URL('./waiter.process.ts', import.meta.url), [
            url,
            `hand-off/${waiters}`,
            String(share),
          ])
          await once(child, 'message')
          return child
        }),
      )
      return { children }
    },
    async round({ children }) {
      for (const child of children) child.send('go')
      await sleep(roundMs)
      const events = (await gather(children)).sort((a, b) => (a.at < b.at ? -1 : 1))
      const latencies: number[] = []
      let releasing: bigint | null = null
      for (const { kind, at } of events) {
        if (kind === 'releasing') releasing = at
        else if (releasing !== null) latencies.push(Number(at - releasing) / 1e6)
      }
      return distribution(latencies)
    },
    async close({ children }) {
      await Promise.all(
        children.map(async (child) => {
          const exited = once(child, 'exit')
          child.send('stop')
          await exited
        }),
      )
    },
  })

const gather = async (children: readonly ChildProcess[]): Promise<{ kind: string; at: bigint }[]> => {
  const reports = await Promise.all(
    children.map(async (child) => {
      const answered = once(child, 'message')
      child.send('report')
      const [message] = await answered
      return report.parse(message).map(([kind, at]) => ({ kind, at: BigInt(at) }))
    }),
  )
  return reports.flat()
}

/** The floor: one durable write that notifies, and its notification heard on another connection. */
export const bareNotify: Contender = contender({
  async open({ url }) {
    const sender = new Client({ connectionString: url })
    const listener = new Client({ connectionString: url })
    await Promise.all([sender.connect(), listener.connect()])
    await sender.query('CREATE TABLE IF NOT EXISTS bench_turn (turn int)')
    await sender.query('INSERT INTO bench_turn VALUES (0)')
    await listener.query('LISTEN bench_turn')
    return { sender, listener }
  },
  async round({ sender, listener }) {
    const latencies: number[] = []
    for (let time = 0; time < 100; time += 1) {
      const heard = once(listener, 'notification')
      const startedAt = performance.now()
      await sender.query({
        name: 'bench_turn',
        text: `WITH written AS (UPDATE bench_turn SET turn = turn + 1 RETURNING turn)
               SELECT pg_notify('bench_turn', max(turn)::text) FROM written`,
      })
      await heard
      latencies.push(performance.now() - startedAt)
    }
    return distribution(latencies)
  },
  async close({ sender, listener }) {
    await Promise.all([sender.end(), listener.end()])
  },
})
