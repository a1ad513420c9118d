import { eventually, type TcpProxy, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ClusterDiscovery } from '../../src/index.ts'
import { clusterTables } from '../database.ts'
import { ObservedCluster, pace, ttlBoundMs } from './observed-cluster.ts'

// At the end of the file: tests that wait for a ttl do so at the same time.
const database = useDatabase({ template: clusterTables, leakCheck: 'file' })
let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 20 })
})
const newCluster = (): ObservedCluster => new ObservedCluster(database.url, pool)

/** A node whose beats and whose listener go through the proxy. */
const joinThrough = (
  cluster: ObservedCluster,
  proxy: TcpProxy,
  id: string,
  heartbeatMs: number = pace.heartbeatMs,
): Promise<ClusterDiscovery> => {
  const connectionString = proxy.url(database.url)
  return cluster.join(id, { pool: database.pool({ connectionString, max: 4 }), connectionString, heartbeatMs })
}
/** Ends what hangs on a proxy, so that the leak check sees a closed cluster. */
const until = (condition: () => boolean, deadlineMs: number, what: string) =>
  eventually(condition, { deadlineMs, what })

describe.concurrent('a partition', () => {
  it('of one node: it knows by itself before the others let it go, and is back when it heals', async () => {
    await using proxy = await tcpProxy(database.url)
    await using cluster = newCluster()
    const a = await cluster.join('a')
    const away = await joinThrough(cluster, proxy, 'away')
    await cluster.agree(['a', 'away'])
    await cluster.settle()
    const selfWhenDown: string[] = []
    a.on('down', () => selfWhenDown.push(away.self.state))
    const over = cluster.disturb('away')
    proxy.blackHole()
    const cutAt = performance.now()
    await until(() => a.nodes().length === 1, ttlBoundMs, 'the others to let it go')
    expect(performance.now() - cutAt).toBeGreaterThan(pace.ttlMs / 2)
    expect(selfWhenDown).toEqual(['down'])
    expect(cluster.downs()).toEqual(['away ttl'])
    expect(away.isConnected).toBe(false)
    expect(away.viewAgeMs).toBeGreaterThan(pace.ttlMs / 2)
    expect(away.nodes().map((node) => node.id)).toEqual(['a', 'away'])
    proxy.heal()
    over()
    await cluster.agree(['a', 'away'], 60_000)
    await until(() => away.self.state === 'up' && away.isConnected, 60_000, 'it to be a member again')
    await cluster.check()
  })

  it('of all nodes: nobody is declared dead, the last view stands', async () => {
    await using proxy = await tcpProxy(database.url)
    await using cluster = newCluster()
    const nodes = [
      await joinThrough(cluster, proxy, 'a'),
      await joinThrough(cluster, proxy, 'b'),
      await joinThrough(cluster, proxy, 'c'),
    ]
    await cluster.agree(['a', 'b', 'c'])
    await cluster.settle()
    proxy.blackHole()
    await until(
      () => nodes.every((node) => node.self.state === 'down' && node.viewAgeMs > 1.5 * pace.ttlMs),
      4 * pace.ttlMs,
      'all deadlines',
    )
    for (const node of nodes) {
      expect(node.nodes()).toHaveLength(3)
      expect(node.isConnected).toBe(false)
    }
    proxy.heal()
    await until(() => nodes.every((node) => node.self.state === 'up' && node.isConnected), 60_000, 'all to be back')
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })

  it('of the sweeper: another one lets it go', async () => {
    await using proxy = await tcpProxy(database.url)
    await using cluster = newCluster()
    await joinThrough(cluster, proxy, 'sweeper')
    await eventually(async () => (await sweeperOf(cluster.name)) === 'sweeper')
    const b = await cluster.join('b')
    const c = await cluster.join('c')
    await cluster.agree(['b', 'c', 'sweeper'])
    await cluster.settle()
    const over = cluster.disturb('sweeper')
    proxy.blackHole()
    await until(() => b.nodes().length === 2 && c.nodes().length === 2, ttlBoundMs, 'the others to let it go')
    expect(cluster.downs()).toEqual(['sweeper ttl'])
    expect(['b', 'c']).toContain(await sweeperOf(cluster.name))
    proxy.heal()
    over()
    await cluster.agree(['b', 'c', 'sweeper'], 60_000)
    await cluster.check()
  })
})

describe.concurrent('a beat that failed', () => {
  it('is repeated at once, not after a heartbeat', async () => {
    await using cluster = newCluster()
    await using proxy = await tcpProxy(database.url)
    const connectionString = proxy.url(database.url)
    const itsPool = database.pool({ connectionString, max: 2 })
    const slowly = { heartbeatMs: 8_000, ttlMs: 24_000 }
    const node = await cluster.join('a', { pool: itsPool, listen: false, ...slowly })
    proxy.refuse()
    proxy.cut()
    await until(() => !node.isConnected, 20_000, 'a beat to fail')
    proxy.heal()
    await until(() => node.isConnected, 6_000, 'another beat, sooner than the heartbeat would bring one')
    await cluster.check()
  })
})

describe.concurrent('a slow database', () => {
  it('that answers each beat after half a ttl throws nobody out', async () => {
    await using cluster = newCluster()
    await using proxy = await tcpProxy(database.url)
    await cluster.join('a')
    const slow = await joinThrough(cluster, proxy, 'slow')
    await cluster.agree(['a', 'slow'])
    await cluster.settle()
    proxy.delay(pace.ttlMs / 4)
    const since = performance.now()
    // It may doubt itself while its pool opens connections for beats that overlap, which takes several slow round trips;
    // the others never do.
    await until(() => performance.now() - since > 2 * pace.ttlMs, 3 * pace.ttlMs, 'two ttls')
    expect(cluster.downs()).toEqual([])
    await until(() => slow.self.state === 'up', 60_000, 'it to be a member in its own eyes')
    proxy.heal()
    await cluster.check()
  })
})

describe('a connection that breaks while the node lives', () => {
  // Alone: it ends the listeners of every cluster in the database.
  it('is no crash: the listener again and again, and every pooled connection', async () => {
    await using cluster = newCluster()
    await using proxy = await tcpProxy(database.url)
    const a = await cluster.join('a')
    // Beats that are further apart than the two looks at a lost marker: the one that saves it is the one sent at once.
    await joinThrough(cluster, proxy, 'b', 1_000)
    await cluster.agree(['a', 'b'])
    await cluster.settle()
    const resyncs: number[] = []
    a.on('resync', ({ gapMs }) => resyncs.push(gapMs))
    for (let round = 1; round <= 4; round += 1) {
      await terminateBackend(pool, { applicationName: 'cluster-discovery' })
      await until(() => resyncs.length === round, 60_000, 'a to listen again')
      proxy.cut()
    }
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })

  it.concurrent('is no crash either when the listener stays away: beats go on without it', async () => {
    await using cluster = newCluster()
    await using proxy = await tcpProxy(database.url)
    await cluster.join('a')
    // It beats so rarely that only a beat out of turn comes between the two looks.
    const slowly = { heartbeatMs: 3_000, ttlMs: 9_000 }
    const b = await cluster.join('b', { connectionString: proxy.url(database.url), ...slowly })
    await cluster.agree(['a', 'b'])
    await cluster.settle()
    proxy.refuse()
    proxy.cut()
    await until(() => !b.capabilities.listen, 60_000, 'b to notice')
    await cluster.join('c')
    await cluster.agree(['a', 'b', 'c'])
    await cluster.settle()
    expect(b.capabilities).toEqual({ listen: false, crashDetection: false })
    expect(cluster.downs()).toEqual([])
    proxy.heal()
    await until(() => b.capabilities.crashDetection, 60_000, 'b to listen again')
    await cluster.check()
  })

  it.concurrent('is no crash either when the node does not know that its listener is gone, as on a half-open line', async () => {
    await using line = await tcpProxy(database.url)
    await using cluster = newCluster()
    await cluster.join('a')
    // Its beats are further apart than the two looks at its marker.
    const slowly = { heartbeatMs: 2_000, ttlMs: 6_000 }
    const b = await cluster.join('b', { connectionString: line.url(database.url), ...slowly })
    await cluster.agree(['a', 'b'])
    await cluster.settle()
    const [port] = line.serverPorts
    line.halfOpen()
    const lastBeat = await nextBeat(cluster.name, 'b')
    const { rowCount } = await pool.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = $1',
      [port],
    )
    expect(rowCount).toBe(1)
    expect(await nextBeat(cluster.name, 'b', lastBeat)).not.toBe(lastBeat)
    expect(cluster.downs()).toEqual([])
    // That beat has found the marker free and does not name it any more.
    expect((await beatOf(cluster.name, 'b'))?.marker).toBeNull()
    expect(b.self.state).toBe('up')
    line.cut()
    await cluster.check()
  })

  it.concurrent('is noticed on a half-open socket, which says nothing', async () => {
    await using cluster = newCluster()
    await using proxy = await tcpProxy(database.url)
    await cluster.join('a')
    const b = await joinThrough(cluster, proxy, 'b')
    await cluster.agree(['a', 'b'])
    await cluster.settle()
    const resynced = new Promise((resolve) => b.on('resync', resolve))
    proxy.halfOpen()
    const c = await cluster.join('c')
    await resynced
    await cluster.agree(['a', 'b', 'c'], 60_000)
    await c.leave()
    expect(cluster.downs().filter((down) => !down.startsWith('b'))).toEqual([])
    await until(() => b.self.state === 'up', 60_000, 'b to be a member')
  })
})

const beatOf = async (cluster: string, id: string): Promise<{ at: string; marker: string | null } | undefined> => {
  const { rows } = await pool.query<{ at: string; marker: string | null }>(
    'SELECT at::text, marker::text FROM coordination.node_beats WHERE cluster = $1 AND id = $2',
    [cluster, id],
  )
  return rows[0]
}

/** Resolves right after a beat; undefined when the node was let go. */
const nextBeat = async (cluster: string, id: string, after?: string): Promise<string | undefined> => {
  const before = after ?? (await beatOf(cluster, id))?.at
  await eventually(async () => (await beatOf(cluster, id))?.at !== before, { deadlineMs: 60_000, what: 'a beat' })
  return (await beatOf(cluster, id))?.at
}

const sweeperOf = async (cluster: string): Promise<string | undefined> => {
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM coordination.cluster_sweepers WHERE cluster = $1', [
    cluster,
  ])
  return rows[0]?.id
}
