/**
 * One replica of the service, a process of its own. This file shows how an application wires the packages together:
 * every replica runs the same code, and the database decides who does what.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { createLeaderInput } from '@x/leader-input'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { createTableLocker } from '@x/lock-table'
import { Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'
import { runJob } from './job.ts'
import { nodeSettings } from './messages.ts'
import { followParent } from './parent.ts'
import { reportStatus } from './report-status.ts'
import type { Shop } from './shop.ts'
import { keepTotals } from './totals.ts'

using parent = followParent(nodeSettings)
const { name, url, leaseMs } = parent.settings
const note = (text: string, once: string | null = null): void => parent.tell({ type: 'note', text, once })

await using resources = new AsyncDisposableStack()
const pool = new Pool({ connectionString: url, max: 6, application_name: `order-pipeline/${name}` })
pool.on('error', () => {}) // an idle connection was lost; the pool opens another when it needs one
resources.defer(() => pool.end())
const db = new Kysely<Shop>({ dialect: new PostgresDialect({ pool }) })

// Who is there: every replica sees the others come and go, in the same order.
await using cluster = createClusterDiscovery({
  pool,
  cluster: 'order-pipeline',
  node: { name, metadata: { pid: process.pid } },
  heartbeatMs: Math.floor(leaseMs / 4),
  ttlMs: leaseMs,
})
cluster.on('join', ({ node, version }) => note(`${node.name} joined the cluster`, `view ${version}`))
cluster.on('leave', ({ node, version }) => note(`${node.name} left the cluster`, `view ${version}`))
cluster.on('down', ({ node, version, cause }) => note(`${node.name} is down (${cause})`, `view ${version}`))
cluster.on('self-down', ({ cause }) => note(`hears that the others let it go (${cause}), and joins again`))
await cluster.join()

// Who leads: the holder of a lease in a table handles every change of `orders`, in order, once. The others stand by.
await using leases = createTableLocker({ pool, ttlMs: leaseMs, acquirer: { name } })
await using input = createLeaderInput<Shop>({
  pool,
  db,
  locker: leases,
  name: 'customer-totals',
  tables: ['orders'],
  takeoverMs: leaseMs,
})
await input.install()
const leading = input.run(keepTotals(name), { signal: parent.stop })

// Who runs the job: whoever gets the advisory lock at that moment. The others try again later.
await using jobs = createAdvisoryLocker({
  connectionString: url,
  fencing: 'sequence',
  applicationName: `order-pipeline/${name}/job`,
})
let jobRuns = 0
const workOnJobs = async (): Promise<void> => {
  while (!parent.stop.aborted) {
    try {
      if (await runJob(jobs, db, name)) jobRuns += 1
    } catch (error) {
      note(`a run of the job was cut off: ${error instanceof Error ? error.message : String(error)}`)
    }
    await delay(200 + Math.random() * 200, undefined, { signal: parent.stop }).catch(() => {})
  }
}

using _ = reportStatus({ parent, cluster, input, jobRuns: () => jobRuns })
await Promise.all([leading, workOnJobs()])
// Asked to stop. What was opened above is closed in reverse order: the lease is released, the cluster left, the pool ended.
