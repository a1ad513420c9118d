import { channelName } from '@x/pg-session'
import { eventually, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import type { ClusterEvent } from '../../src/index.ts'
import { idsOf, newCluster, useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'

const database = useDatabase({ template: clusterTables })

/** Beats so rarely that whatever arrives sooner came by notification. */
const clusters = useClusters(database, { listens: true, heartbeatMs: 60_000, ttlMs: 180_000 })
const { create } = clusters

describe('a cluster with LISTEN', () => {
  it('says what works here', async () => {
    const a = create(newCluster(), 'a')
    await a.join()
    await eventually(() => a.capabilities.listen && a.capabilities.crashDetection)
    await a.close()
    expect(a.capabilities).toEqual({ listen: false, crashDetection: false })
  })

  it('sees joins, updates and leaves long before the next beat', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    const seen: string[] = []
    for (const type of ['join', 'update', 'leave', 'down'] as const)
      a.on(type, ({ node }) => seen.push(`${type} ${node.id}`))
    await a.join()
    const b = create(cluster, 'b')
    await b.join()
    await eventually(() => seen.includes('join b'))
    await b.updateMetadata({ big: 'x'.repeat(10_000) })
    await eventually(() => a.nodes({ metadata: { big: 'x'.repeat(10_000) } }).length === 1)
    await b.drain()
    await eventually(() => a.nodes({ states: ['leaving'] }).length === 1)
    await b.close()
    await eventually(() => idsOf(a).join() === 'a')
    expect(seen).toEqual(['join b', 'update b', 'update b', 'leave b'])
  })

  it('misses nothing when a change that does not fit a notification is followed by one that does', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    const b = create(cluster, 'b')
    await a.join()
    await b.join()
    for (let round = 1; round <= 5; round += 1) {
      const guest = create(cluster, `guest-${round}`)
      await b.updateMetadata({ round, big: 'x'.repeat(10_000) })
      await guest.join()
      await eventually(() => a.version >= guest.version)
      expect(a.nodes({ metadata: { round } }).map((node) => node.id)).toEqual(['b'])
      expect(a.nodes()).toEqual(guest.nodes())
    }
  })

  it('agrees on one view after fifty nodes joined at once', async () => {
    const cluster = newCluster()
    const all = Array.from({ length: 50 }, (_, index) =>
      create(cluster, `node-${index}`, index < 10 ? {} : { listen: false, heartbeatMs: 200, ttlMs: 20_000 }),
    )
    await Promise.all(all.map((each) => each.join()))
    await eventually(() => all.every((each) => each.version === 50n && each.nodes().length === 50), {
      deadlineMs: 20_000,
    })
    const [first] = all
    for (const each of all) expect(each.nodes()).toEqual(first?.nodes())
  })

  it('tells of the gap after its listener was cut, with nothing missed', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    const events: ClusterEvent[] = []
    for (const type of ['join', 'leave', 'resync', 'down'] as const) a.on(type, (event) => events.push(event))
    await a.join()
    const b = create(cluster, 'b')
    await b.join()
    await eventually(() => idsOf(a).length === 2 && a.capabilities.crashDetection && b.capabilities.crashDetection)
    expect(await terminateBackend(clusters.pool, { applicationName: 'cluster-discovery' })).toHaveLength(2)
    await create(cluster, 'c').join()
    await eventually(() => events.some((event) => event.type === 'resync'))
    await eventually(() => idsOf(a).length === 3)
    const resync = events.find((event) => event.type === 'resync')
    expect(resync).toMatchObject({ gapMs: expect.any(Number) })
    expect(events.filter((event) => event.type === 'down')).toEqual([])
    expect(events.filter((event) => event.type === 'join')).toHaveLength(2)
  })

  it('tells of the gap also when the read that it asks for fails, with the next beat', async () => {
    await using proxy = await tcpProxy(database.url)
    const itsPool = database.pool({ connectionString: proxy.url(database.url), max: 1 })
    const a = create(newCluster(), 'a', { pool: itsPool, heartbeatMs: 300, ttlMs: 60_000 })
    await a.join()
    await eventually(() => a.capabilities.crashDetection)
    // The read of its first resync, at most half a second after that of the join, must not be the one that fails.
    const joinedAt = performance.now()
    await eventually(() => performance.now() - joinedAt > 1_000)
    const resynced = new Promise((resolve) => a.on('resync', resolve))
    const failed = proxy.swallowNextReply({ matching: 'cluster_read' })
    expect(await terminateBackend(clusters.pool, { applicationName: 'cluster-discovery' })).toHaveLength(1)
    await failed
    // Nothing changes in this cluster: only the gap is a reason to read again.
    expect(await resynced).toMatchObject({ type: 'resync', gapMs: expect.any(Number) })
  })

  it('survives foreign payloads on its channel', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    await a.join()
    const channel = channelName(`cluster_coordination_${cluster}`)
    for (const payload of ['', 'hello', '{', '{"v":"x"}', '{"v":"9999"}', '[1]', '{"v":"2","n":[["a"]]}', 'null']) {
      await clusters.pool.query('SELECT pg_notify($1, $2)', [channel, payload])
    }
    await create(cluster, 'b').join()
    await eventually(() => idsOf(a).length === 2)
  })
})

describe('a reader that falls behind', () => {
  it('gets a fresh snapshot instead of a growing queue', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    await a.join()
    const slow = a.watch({ maxQueue: 5 })
    expect(await slow.next()).toMatchObject({ value: { type: 'snapshot' } })
    const b = create(cluster, 'b')
    await b.join()
    for (let round = 0; round < 10; round += 1) await b.updateMetadata({ round })
    await eventually(() => a.nodes({ metadata: { round: 9 } }).length === 1)
    expect(await slow.next()).toMatchObject({
      value: { type: 'snapshot', nodes: [{ id: 'a' }, { metadata: { round: 9 } }] },
    })
    await b.leave()
    expect(await slow.next()).toMatchObject({ value: { type: 'leave', node: { id: 'b' } } })
  })
})

describe('connect and disconnect', () => {
  it('are called for each peer, again after a failure, and once more for a new incarnation', async () => {
    const cluster = newCluster()
    const calls: string[] = []
    let failures = 2
    const a = create(cluster, 'a', {
      connect: async (peer) => {
        if (failures > 0) {
          failures -= 1
          calls.push('refused b')
          throw new Error('not yet')
        }
        calls.push(`connect ${peer.id}`)
      },
      disconnect: (peer) => {
        calls.push(`disconnect ${peer.id}`)
      },
    })
    await a.join()
    const b = create(cluster, 'b')
    await b.join()
    await eventually(() => calls.includes('connect b'))
    expect(calls).toEqual(['refused b', 'refused b', 'connect b'])
    await create(cluster, 'b').join()
    await eventually(() => calls.length === 5)
    expect(calls.slice(3)).toEqual(['disconnect b', 'connect b'])
    await a.close()
    expect(calls.slice(5)).toEqual(['disconnect b'])
  })

  it('abort what is being connected when the peer goes', async () => {
    const cluster = newCluster()
    const aborted: string[] = []
    const a = create(cluster, 'a', {
      connect: (peer, signal) =>
        new Promise((_, reject) =>
          signal.addEventListener('abort', () => {
            aborted.push(peer.id)
            reject(signal.reason)
          }),
        ),
      disconnect: () => {
        aborted.push('never connected')
      },
    })
    await a.join()
    const b = create(cluster, 'b')
    await b.join()
    await eventually(() => idsOf(a).length === 2)
    await b.leave()
    await eventually(() => aborted.length > 0)
    expect(aborted).toEqual(['b'])
  })
})
