import { setTimeout as sleep } from 'node:timers/promises'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { Client } from 'pg'
import type { Contender } from './benchmark.ts'
import { contender } from './contender.ts'

const detectMs = 600
const forMs = 4_000

/** What it costs to keep `count` locks for a while in which nothing else happens: beats of the session, and the server's time for them. */
export const heartbeats = (count: number): Contender =>
  contender({
    async open({ url }) {
      const observer = new Client({ connectionString: url })
      await observer.connect()
      await observer.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements')
      const locker = createAdvisoryLocker({ connectionString: url, fencing: 'none', detectMs })
      return { observer, locker }
    },
    async round({ observer, locker }) {
      const locks = await Promise.all(Array.from({ length: count }, (_, index) => locker.acquire(`beat/${index}`)))
      await observer.query('SELECT pg_stat_statements_reset()')
      const cpu = process.cpuUsage()
      await sleep(forMs)
      const { user, system } = process.cpuUsage(cpu)
      // Whatever runs while nothing is asked for, under whichever name.
      const { rows } = await observer.query<{ beats: number; ms: number }>(
        `SELECT sum(calls)::int AS beats, sum(total_exec_time)::float8 AS ms FROM pg_stat_statements
          WHERE query NOT LIKE '%pg_stat_statements%'`,
      )
      const { beats = 0, ms = 0 } = rows[0] ?? {}
      if (!locks.every((lock) => lock.isHeld())) throw new Error('expected every lock to be held')
      await Promise.all(locks.map((lock) => lock.release()))
      return { beats, serverUsPerBeat: (ms * 1_000) / beats, clientCpuMs: (user + system) / 1_000 }
    },
    async close({ observer, locker }) {
      await locker.close()
      await observer.end()
    },
  })
