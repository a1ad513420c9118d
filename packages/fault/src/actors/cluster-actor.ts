/** A process that is a member of a cluster and tells what it sees of it. */
import { createClusterDiscovery } from '@x/cluster-discovery'
import { monotonicMicros, tell } from '@x/testkit'
import { Pool } from 'pg'
import { z } from 'zod'
import { dropPool, runActor, tellFailure } from './actor.ts'

const { url, processName, heartbeatMs, ttlMs } = z
  .object({ url: z.string(), processName: z.string(), heartbeatMs: z.number(), ttlMs: z.number() })
  .parse(JSON.parse(process.argv[2] ?? ''))

const pool = new Pool({ connectionString: url, max: 3, application_name: processName, connectionTimeoutMillis: 2_000 })
pool.on('error', () => {})
const dropOwnPool = dropPool(pool)
const cluster = createClusterDiscovery({
  ...{ pool, heartbeatMs, ttlMs },
  cluster: 'campaign',
  node: { name: processName },
})

const seen = (node: { name: string; incarnation: bigint; state: string }) => ({
  id: node.name,
  incarnation: String(node.incarnation),
  state: node.state,
})

const watch = async (): Promise<void> => {
  for await (const event of cluster.watch()) {
    const about = { version: String(event.version), at: monotonicMicros() }
    if (event.type === 'snapshot') tell({ type: 'event', ...about, event: event.type, nodes: event.nodes.map(seen) })
    else if ('node' in event) tell({ type: 'event', ...about, event: event.type, node: seen(event.node) })
    else tell({ type: 'noted', ...about, event: event.type })
  }
}

const view = (): void => {
  const nodes = cluster.nodes().map(seen)
  tell({ type: 'view', at: monotonicMicros(), version: String(cluster.version), connected: cluster.isConnected, nodes })
}

let watching: Promise<void> = Promise.resolve()
const looking = setInterval(view, 200)

/** A service joins as soon as it can: the database may be away just now. */
const join = async (over: AbortSignal): Promise<void> => {
  while (!over.aborted) {
    try {
      await cluster.join()
      return
    } catch (error) {
      tellFailure('join', error)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

await runActor(
  async (over) => {
    await join(over)
    watching = watch().catch((error: unknown) => tellFailure('watch', error))
  },
  {
    'leave()': () => {
      clearInterval(looking)
      return cluster.leave().catch((error: unknown) => tellFailure('leave', error))
    },
    'close()': () => cluster.close(),
    'watch()': () => watching,
    'the pool': dropOwnPool,
  },
)
