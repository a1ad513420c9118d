import { eventually, primaryWithStandby, tcpProxy } from '@x/testkit'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { type ClusterEvent, createClusterDiscovery } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { clusterStatements } from '../../src/statements.ts'
import { idsOf } from '../clusters.ts'
import { fold } from '../fold.ts'

const sql = clusterStatements('"coordination"', 'test')
/** A member that is only a row: silent, and nobody waits so long for it. */
const enroll = (pool: Pool, cluster: string, id: string) =>
  pool.query({ text: sql.join.text, values: [cluster, id, id, null, '{}', id, 600_000, 'nobody listens'] })

it('after promotion of a standby that missed changes a node that does not listen has the new history, however many changes that has', async () => {
  await using servers = await primaryWithStandby()
  const { primary, standby, replication } = servers
  await using front = await tcpProxy(primary.port)
  const through = new Pool({ connectionString: front.url(primary.url), max: 4 })
  const [before, after] = [primary, standby].map(({ url }) => new Pool({ connectionString: url, max: 1 }))
  if (before === undefined || after === undefined) throw new Error('expected a pool for each server')
  for (const pool of [through, before, after]) pool.on('error', () => {})
  await migrate(before)
  const clusters = [
    { cluster: 'as many', changes: ['c'], heartbeatMs: 200, reads: false },
    { cluster: 'more', changes: ['c', 'd'], heartbeatMs: 200, reads: false },
    { cluster: 'more, before it beats', changes: ['c', 'd'], heartbeatMs: 20_000, reads: true },
  ].map(({ cluster, changes, heartbeatMs, reads }) => {
    const node = createClusterDiscovery({
      pool: through,
      cluster,
      listen: false,
      heartbeatMs,
      ttlMs: 60_000,
      node: { id: 'node', name: 'node' },
    })
    const events: ClusterEvent[] = []
    const watching = (async () => {
      for await (const event of node.watch()) events.push(event)
    })()
    const sees = async (ids: string[]): Promise<void> => {
      if (reads) await node.updateMetadata({ changes: events.length })
      else await eventually(() => idsOf(node).join() === ids.join(), { deadlineMs: 60_000 })
      expect(idsOf(node)).toEqual(ids)
    }
    return { cluster, changes, node, events, watching, sees }
  })
  for (const { node } of clusters) await node.join()
  await servers.caughtUp()

  // The standby hears of none of these.
  replication.blackHole()
  for (const { cluster, sees } of clusters) {
    await enroll(before, cluster, 'lost')
    await sees(['lost', 'node'])
  }
  front.refuse()
  await primary.halt('immediate')
  await servers.promote()
  for (const { cluster, changes } of clusters) for (const id of changes) await enroll(after, cluster, id)
  front.retarget(standby.port)
  front.heal()

  for (const { changes, node, events, sees } of clusters) {
    await sees([...changes, 'node'])
    await eventually(() => expect(fold([], events)).toEqual(node.nodes()) ?? true)
    // Nobody read that it left.
    expect(events.flatMap((event) => (event.type === 'down' ? [event.node.id] : []))).toEqual(['lost'])
  }
  await Promise.all(clusters.map(({ node }) => node.close()))
  await Promise.all(clusters.map(({ watching }) => watching))
  await Promise.all([through, before, after].map((pool) => pool.end()))
})
