import { setTimeout as delay } from 'node:timers/promises'
import { createDatabase, openDatabase, primaryWithStandby } from '@x/testkit'
import type { RunOptions, Scenario, Verdict } from '../scenario.ts'
import { LockReplicas, lockTemplate } from './lock-replicas.ts'

/**
 * The primary dies and its standby, which missed the last commits, takes over. Grants that the new primary knows nothing
 * of must still exclude those that it gives, and tokens must still rise.
 */
export const failoverScenario: Scenario = {
  name: 'lock-table-failover',
  about: 'leases over the promotion of a standby that missed the last commits',
  needs: () => null,
  async run({ random, lengthMs, tell }: RunOptions): Promise<Verdict> {
    await using resources = new AsyncDisposableStack()
    const servers = resources.use(await primaryWithStandby())
    const { primary, standby, replication } = servers
    const database = await createDatabase(primary.url, { label: 'failover', template: lockTemplate })
    resources.defer(() => database.disconnect())
    await servers.caughtUp()
    const locks = resources.use(await LockReplicas.start({ adapter: 'table', databaseUrl: database.url, random }))
    await delay(random.int(lengthMs * 0.2, lengthMs * 0.4))

    tell('the standby loses the primary')
    replication.refuse()
    replication.cut()
    await delay(random.int(50, 1_500))
    tell('the primary dies, the standby is promoted')
    await primary.halt('immediate')
    await servers.promote()
    for (const { line } of locks.replicas) {
      line.retarget(standby.port)
      line.cut()
    }
    const promoted = openDatabase(standby.url, database.name)
    resources.defer(() => promoted.disconnect())
    const admin = promoted.pool({ max: 2 })
    await delay(random.int(lengthMs * 0.3, lengthMs * 0.5))
    const stuck = await locks.stuck()
    const unfinished = await locks.finish()
    const { violations, counts } = await locks.verdict(admin)
    return { violations: [...stuck, ...unfinished, ...violations], counts: { ...counts, faults: 1 } }
  },
}
