import { setTimeout as delay } from 'node:timers/promises'
import { createMemoryLocker } from '@x/lock-core/memory'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import { eventually, randomSource, spawnNode, type TestProcess, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Client, Pool } from 'pg'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { migrate } from '../../src/migrations.ts'
import { itemsInput } from '../support/evidence.ts'
import { differences, isCaughtUp, randomTransaction, standstill, workloadTables } from '../support/workload.ts'

const database = useDatabase({
  template: {
    name: 'leader-input-workload',
    prepare: async (pool) => {
      await migrate(pool)
      await migrateLocks(pool)
      await pool.query(workloadTables)
    },
  },
})

const long = process.env.COORDINATION_LONG === '1'
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
const status = z.object({ status: z.string(), epoch: z.string(), error: z.string().nullable() })
type Replica = TestProcess<z.infer<typeof status>>

const leaderOf = (replicas: readonly Replica[]): Replica | undefined =>
  replicas.find((replica) => replica.isRunning && replica.messages.at(-1)?.status === 'leading')

for (const kind of ['table', 'advisory', 'everyone'] as const) {
  it(`loses, doubles and inverts nothing while leaders are killed, stopped and cut off; locker: ${kind} (seed ${seed})`, async () => {
    const random = randomSource(seed).fork(kind)
    const { url } = await database.another(kind)
    const pool = new Pool({ connectionString: url })
    // Its database may be dropped before the server has heard of the end of the pool.
    pool.on('error', () => {})
    const input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    let replicaNumber = 0
    const spawn = (): Promise<Replica> =>
      spawnNode(new URL('../support/replica.ts', import.meta.url), {
        messages: status,
        args: [url, kind, `replica-${replicaNumber++}`],
      })
    const replicas = await Promise.all([spawn(), spawn(), spawn()])
    try {
      // A slow machine must not leave a run in which nobody led, or nobody was killed: it would show nothing.
      await eventually(() => leaderOf(replicas) !== undefined, { deadlineMs: 60_000, what: 'a replica to lead' })
      const until = performance.now() + (long ? 120_000 : 12_000)
      const writers = Array.from({ length: 6 }, async (_, i) => {
        const own = random.fork(`writer ${i}`)
        const client = new Client({ connectionString: url, application_name: 'writer' })
        await client.connect()
        while (performance.now() < until) await randomTransaction(client, own, 30)
        await client.end()
      })
      const faults = random.fork('faults')
      const breakThings = async (): Promise<void> => {
        await eventually(async () => (await pool.query('SELECT FROM effects LIMIT 1')).rowCount === 1, {
          ...{ deadlineMs: 60_000, what: 'the first effect' },
        })
        const first = await eventually(() => leaderOf(replicas), { deadlineMs: 60_000, what: 'a replica to kill' })
        await first.kill()
        replicas[replicas.indexOf(first)] = await spawn()
        await eventually(() => leaderOf(replicas), { deadlineMs: 60_000, what: 'a successor' })
        // What it handles, and so its epoch, is certain to be there.
        const client = new Client({ connectionString: url, application_name: 'writer' })
        await client.connect()
        await client.query(
          `BEGIN; INSERT INTO items VALUES (-1, 1); INSERT INTO journal (item, what) VALUES (-1, 'create ->1'); COMMIT`,
        )
        await client.end()
        while (performance.now() < until - 2_000) {
          await delay(faults.int(300, 1_200))
          const victim = leaderOf(replicas)
          if (victim === undefined) continue
          const fault = faults.pick(['kill', 'stop', 'terminate'] as const)
          if (fault === 'kill') {
            await victim.kill()
            replicas[replicas.indexOf(victim)] = await spawn()
          } else if (fault === 'stop') {
            victim.pause()
            void delay(faults.int(200, 4_000)).then(() => victim.resume())
          } else await terminateBackend(pool, { applicationName: 'replica-%' })
        }
      }
      await Promise.all([...writers, breakThings()])
      for (const replica of replicas) replica.resume()
      await eventually(() => isCaughtUp(pool), { deadlineMs: 60_000 }).catch(async (error) => {
        const said = replicas.map(({ isRunning, messages }) => [isRunning, messages.slice(-3)])
        const { events } = await input.lag()
        throw new Error(`${error}; lag ${events}; ${JSON.stringify(said)}; ${await standstill(pool)}`)
      })
      const evidence = await pool.query<{ changes: string; epochs: string }>(
        'SELECT (SELECT count(*) FROM journal) AS changes, (SELECT count(DISTINCT epoch) FROM effects) AS epochs',
      )
      expect(await differences(pool)).toEqual([])
      expect(Number(evidence.rows[0]?.epochs)).toBeGreaterThan(1)
      expect(
        (
          await pool.query(
            'SELECT count(*)::int AS n FROM (SELECT epoch < max(epoch) OVER (ORDER BY n) AS late FROM effects) e WHERE late',
          )
        ).rows,
      ).toEqual([{ n: 0 }])
    } finally {
      await Promise.all(replicas.map((replica) => replica.kill()))
      await input.close()
      await pool.end()
    }
  })
}
