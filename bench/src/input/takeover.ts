import { setTimeout as delay } from 'node:timers/promises'
import { migrate } from '@x/lock-table/migrations'
import { spawnNode, type TestProcess } from '@x/testkit'
import { Pool } from 'pg'
import { z } from 'zod'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'

const kills = 3
const message = z.object({ kind: z.string() })
type Replica = TestProcess<z.output<typeof message>>

/** The lease of the table locker in this row, in milliseconds. */
export const takeoverMs = 2_000

/** F7: from the SIGKILL of the leading process to the next event that its successor is given. */
export const killedLeader = (kind: 'advisory' | 'table'): Contender =>
  contender({
    async open({ url }) {
      const pool = new Pool({ connectionString: url, max: 2 })
      await migrate(pool)
      await pool.query('CREATE TABLE IF NOT EXISTS f7_things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)')
      return { url, pool }
    },
    async round({ url, pool }) {
      const tookMs: number[] = []
      let onHandled: (by: Replica) => void = () => {}
      const start = async (): Promise<Replica> => {
        const replica: Replica = await spawnNode(new URL('./replica.process.ts', import.meta.url), {
          messages: message,
          args: [url, kind, `${takeoverMs}`],
          onMessage: (told) => {
            if (told.kind === 'handled') onHandled(replica)
          },
        })
        await replica.message((told) => told.kind === 'ready', 30_000)
        return replica
      }
      const handledBy = (isMeant: (by: Replica) => boolean): Promise<Replica> =>
        new Promise((resolve) => {
          onHandled = (by) => {
            if (isMeant(by)) resolve(by)
          }
        })
      let writing = true
      const writer = (async () => {
        while (writing) await Promise.all([pool.query('INSERT INTO f7_things DEFAULT VALUES'), delay(10)])
      })()
      const replicas = new Set<Replica>()
      try {
        for (let n = 0; n < 2; n += 1) replicas.add(await start())
        for (let kill = 0; kill < kills; kill += 1) {
          const leader = await handledBy(() => true)
          // The other is waiting for the lock by then.
          await delay(500)
          const next = handledBy((by) => by !== leader)
          const startedAt = performance.now()
          void leader.kill('SIGKILL')
          await next
          tookMs.push(performance.now() - startedAt)
          replicas.delete(leader)
          replicas.add(await start())
        }
      } finally {
        writing = false
        await writer
        await Promise.all([...replicas].map((replica) => replica.kill('SIGKILL')))
      }
      tookMs.sort((a, b) => a - b)
      return { p50Ms: tookMs[Math.floor(tookMs.length / 2)] ?? Number.NaN, worstMs: tookMs.at(-1) ?? Number.NaN }
    },
    async close({ pool }) {
      await pool.end()
    },
  })
