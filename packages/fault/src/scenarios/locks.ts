import { findProgram, howToInstall, pgbouncer } from '@x/testkit'
import { carryOut } from '../fault-means.ts'
import { planFaults, replicaFaults, serverFaults } from '../fault-plan.ts'
import type { RunOptions, Scenario, Verdict } from '../scenario.ts'
import { createWorld } from '../world.ts'
import { type LockAdapter, LockReplicas, lockTemplate, lockTtlMs } from './lock-replicas.ts'

export interface LockScenarioOptions {
  readonly name: string
  readonly about: string
  readonly adapter: LockAdapter
  /** Put PgBouncer between the replicas and the server. */
  readonly pooled?: boolean
}

/** Drawn more often than the others: they are what makes a holder believe too long. */
const isolating = ['stop', 'hold-to-server', 'hold-to-client'] as const

/** Replicas that take the same few locks while everything is done to them. */
export const lockScenario = ({ name, about, adapter, pooled = false }: LockScenarioOptions): Scenario => ({
  name,
  about,
  needs: () => (pooled && findProgram('pgbouncer') === null ? howToInstall('pgbouncer') : null),
  run: async ({ random, lengthMs, tell }: RunOptions): Promise<Verdict> => {
    await using resources = new AsyncDisposableStack()
    const world = resources.use(await createWorld({ random, template: lockTemplate, tell }))
    const { url } = world.server
    // The default waits 15 s after a failed login before it tries the server again.
    const settings = { server_login_retry: 1 }
    const pooler = pooled ? resources.use(await pgbouncer({ url, mode: 'transaction', poolSize: 10, settings })) : null
    const databaseUrl = pooler?.url(world.database.url) ?? world.database.url
    const locks = resources.use(await LockReplicas.start({ adapter, databaseUrl, random }))
    const plan = planFaults({
      ...{ random: random.fork('plan'), replicas: locks.replicas.length, lengthMs },
      ...{ faults: [...replicaFaults, ...isolating, ...isolating, ...serverFaults], ttlMs: lockTtlMs, everyMs: 350 },
    })
    const faults = await carryOut(world, plan, locks.replicas)
    const stuck = await locks.stuck()
    const unfinished = await locks.finish()
    // What the pooler keeps open to the server is not the replicas'.
    await pooler?.stop()
    const { violations, counts } = await locks.verdict(world.admin)
    return { violations: [...stuck, ...unfinished, ...violations], counts: { ...counts, faults } }
  },
})
