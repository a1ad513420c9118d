import { setTimeout as delay } from 'node:timers/promises'
import { createMemoryLocker } from '@x/lock-core/memory'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import { eventually, randomSource, spawnNode, type TestProcess } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { migrate } from '../../src/migrations.ts'
import { balancesTable, bankEvidence, bankInput, wrongBalances } from '../support/bank.ts'
import { pgbench, type Tpcb, tpcbPort } from '../support/tpcb.ts'

const database = useDatabase({
  template: {
    name: 'leader-input-bank',
    prepare: async (pool) => {
      await migrate(pool)
      await migrateLocks(pool)
      await pool.query(balancesTable)
    },
  },
})

const long = process.env.COORDINATION_LONG === '1'
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
const status = z.object({ status: z.string(), epoch: z.string(), error: z.string().nullable() })
type Replica = TestProcess<z.infer<typeof status>>

/** The leader is killed this often, so many times; the load goes on until the successor of the last one has handled something. */
const { everyMs, kills } = long ? { everyMs: 5_000, kills: 24 } : { everyMs: 3_000, kills: 2 }

/** Here the program where there is one, else the port; a long run takes both. */
const workloads: readonly ((url: string) => Tpcb | null)[] = [
  (url) => pgbench(url) ?? tpcbPort(database.pool(), url, randomSource(seed)),
  ...(long ? [(url: string) => tpcbPort(database.pool({ connectionString: url }), url, randomSource(seed))] : []),
]

it.each(workloads)(
  `keeps the balances of TPC-B right while its leaders are killed (seed ${seed}, workload %#)`,
  async (make) => {
    const { url } = await database.another('bank')
    const pool = database.pool({ connectionString: url })
    const bank = make(url)
    if (bank === null) throw new Error('expected a workload')
    await bank.prepare()
    await using input = bankInput({ pool, locker: createMemoryLocker() })
    await input.install()
    let replicaNumber = 0
    const spawn = (): Promise<Replica> => {
      replicaNumber += 1
      return spawnNode(new URL('../support/replica.ts', import.meta.url), {
        messages: status,
        args: [url, 'table', `replica-${replicaNumber}`, 'bank'],
      })
    }
    const replicas = await Promise.all([spawn(), spawn()])
    const leader = (): Promise<Replica> =>
      eventually(() => replicas.find((replica) => replica.isRunning && replica.messages.at(-1)?.status === 'leading'), {
        deadlineMs: 60_000,
        what: 'a replica to lead',
      })
    const haveHandled = (leaders: number): Promise<unknown> =>
      eventually(
        async () => {
          const { rows } = await pool.query<{ count: number }>('SELECT count(*)::int AS count FROM leaders')
          return (rows[0]?.count ?? 0) >= leaders
        },
        { deadlineMs: 60_000, everyMs: 50, what: `${leaders} leaders, one after the other, to handle something` },
      )
    try {
      // As fast as it goes in a long run; here at a rate that the machine of a test run can follow.
      let enough = false
      const load = (async () => {
        while (!enough) await bank.run(everyMs / 1_000, long ? 0 : 250)
      })()
      load.catch(() => {}) // awaited below
      for (let kill = 1; kill <= kills; kill += 1) {
        await delay(everyMs)
        const victim = await leader()
        await haveHandled(kill)
        await victim.kill()
        replicas[replicas.indexOf(victim)] = await spawn()
      }
      await haveHandled(kills + 1)
      enough = true
      await load
      await eventually(async () => (await input.lag()).events === 0, {
        deadlineMs: long ? 600_000 : 120_000,
        everyMs: 100,
      })
      const { rows } = await pool.query('SELECT count(*)::int AS transactions FROM pgbench_history')
      const wrong = await wrongBalances(pool)
      expect(wrong, `${bank.name} ${wrong.length > 0 ? await bankEvidence(pool) : ''}`).toEqual([])
      expect(rows[0].transactions).toBeGreaterThan(100)
    } finally {
      await Promise.all(replicas.map((replica) => replica.kill()))
      await pool.end()
    }
  },
  long ? 1_800_000 : 600_000,
)
