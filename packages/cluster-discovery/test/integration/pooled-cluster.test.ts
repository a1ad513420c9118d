import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { type ClusterEvent, createClusterDiscovery, createLibclusterDiscovery } from '../../src/index.ts'
import { idsOf, newCluster, useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'
import { fold } from '../fold.ts'

const database = useDatabase({ template: clusterTables })

/** A ttl that no pause of a busy machine outlasts; who must be let go soon says so. */
const ttlMs = 20_000
const clusters = useClusters(database, { listens: false, heartbeatMs: 100, ttlMs })
const { create } = clusters

/** What a sweeper does to a node that it takes for dead. */
const letGo = async (cluster: string, id: string): Promise<void> => {
  await clusters.pool.query(
    `WITH gone AS (DELETE FROM coordination.node_beats WHERE cluster = $1 AND id = $2)
     UPDATE coordination.nodes SET state = 'down', cause = 'ttl' WHERE cluster = $1 AND id = $2`,
    [cluster, id],
  )
}

describe('a cluster without LISTEN', () => {
  it('shows a joining node to itself at once and to the others with their next beat', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    const b = create(cluster, 'b')
    expect((await a.join()).map((node) => node.id)).toEqual(['a'])
    expect((await b.join()).map((node) => node.id)).toEqual(['a', 'b'])
    await eventually(() => idsOf(a).length === 2)
    expect(a.capabilities).toEqual({ listen: false, crashDetection: false })
    expect(a.self).toMatchObject({ id: 'a', state: 'up', incarnation: 1n })
    expect(a.isConnected).toBe(true)
    expect(a.viewAgeMs).toBeLessThan(ttlMs)
  })

  it('keeps clusters of one database apart', async () => {
    const a = create(newCluster(), 'a')
    const b = create(newCluster(), 'b')
    await Promise.all([a.join(), b.join()])
    expect(idsOf(a)).toEqual(['a'])
    expect(idsOf(b)).toEqual(['b'])
  })

  it('tells a leave from a death', async () => {
    const cluster = newCluster()
    const [a, b] = [create(cluster, 'a'), create(cluster, 'b')]
    const events: ClusterEvent[] = []
    a.on('leave', (event) => events.push(event))
    a.on('down', (event) => events.push(event))
    await a.join()
    await b.join()
    await eventually(() => idsOf(a).length === 2)
    await b.drain()
    expect(b.self.state).toBe('leaving')
    await eventually(() => a.nodes({ states: ['leaving'] }).length === 1)
    await b.leave()
    expect(b.self.state).toBe('left')
    await eventually(() => idsOf(a).length === 1)
    expect(events).toMatchObject([{ type: 'leave', node: { id: 'b', state: 'left' } }])
    expect(a.nodes({ states: ['left'] })).toMatchObject([{ id: 'b' }])
  })

  it('lets a silent node go after its ttl, and tells it when it comes back', async () => {
    const cluster = newCluster()
    const itsPool = database.pool({ max: 1 })
    const a = create(cluster, 'a', { ttlMs: 2_000 })
    const b = create(cluster, 'b', { ttlMs: 2_000, pool: itsPool })
    await a.join()
    await b.join()
    const down = new Promise<ClusterEvent>((resolve) => a.on('down', resolve))
    const selfDown = new Promise<ClusterEvent>((resolve) => b.on('self-down', resolve))
    // Somebody keeps its only connection: no beat gets through.
    const connection = await itsPool.connect()
    expect(await down).toMatchObject({ node: { id: 'b' }, cause: 'ttl' })
    expect(b.self.state).toBe('down')
    expect(b.isConnected).toBe(false)
    connection.release()
    expect(await selfDown).toMatchObject({ cause: 'evicted' })
    await eventually(() => b.self.state === 'up' && b.self.incarnation > 2n)
    await eventually(() => idsOf(a).length === 2)
  })

  it('gives a node that joins as soon as it hears that it was let go one life, not two', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a', { rejoin: false })
    await a.join()
    const beats: bigint[] = []
    const listener = (message: unknown): void => void beats.push(Reflect.get(Object(message), 'incarnation'))
    const again = new Promise<void>((resolve, reject) =>
      a.on('self-down', () => {
        a.join().then(() => {
          subscribe('tracing:coordination:cluster.beat:start', listener)
          resolve()
        }, reject)
      }),
    )
    await letGo(cluster, 'a')
    await again
    try {
      await eventually(() => beats.length > 8)
    } finally {
      unsubscribe('tracing:coordination:cluster.beat:start', listener)
    }
    expect(new Set(beats)).toEqual(new Set([a.self.incarnation]))
  })

  it('keeps a node away that leaves as soon as it hears that it was let go', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    await a.join()
    const left = new Promise<void>((resolve, reject) => a.on('self-down', () => a.leave().then(resolve, reject)))
    await letGo(cluster, 'a')
    await left
    const since = performance.now()
    // It would be back within a heartbeat, 100 ms.
    await eventually(() => performance.now() - since > 500)
    expect(a.self).toMatchObject({ state: 'down', incarnation: 1n })
    expect((await a.join()).map((node) => node.id)).toEqual(['a'])
  })

  it('ends the earlier of two processes with one id, for good', async () => {
    const cluster = newCluster()
    const [first, second] = [create(cluster, 'same'), create(cluster, 'same')]
    await first.join()
    const selfDown = new Promise<ClusterEvent>((resolve) => first.on('self-down', resolve))
    await second.join()
    expect(await selfDown).toMatchObject({ cause: 'replaced' })
    expect(first.self.state).toBe('down')
    await expect(first.drain()).rejects.toMatchObject({ code: 'NODE_EVICTED' })
    await expect(first.updateMetadata({ a: 1 })).rejects.toMatchObject({ code: 'NODE_EVICTED' })
    expect(second.self.state).toBe('up')
  })

  it('carries metadata, and filters by them', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a', { node: { id: 'a', name: '', metadata: { role: 'web', zone: { rack: 1 } } } })
    const b = create(cluster, 'b', { node: { id: 'b', name: '', metadata: { role: 'db' } } })
    await a.join()
    await b.join()
    expect(b.nodes({ metadata: { role: 'web' } }).map((node) => node.id)).toEqual(['a'])
    const updated = new Promise<ClusterEvent>((resolve) => b.on('update', resolve))
    expect((await a.updateMetadata({ load: 3 })).metadata).toEqual({ role: 'web', zone: { rack: 1 }, load: 3 })
    expect(await updated).toMatchObject({ node: { metadata: { load: 3 } }, previous: { metadata: { role: 'web' } } })
    await expect(a.updateMetadata({ big: 'x'.repeat(17_000) })).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    expect(a.self.metadata).toEqual({ role: 'web', zone: { rack: 1 }, load: 3 })
  })
})

describe('watch', () => {
  it('is a snapshot and then what happens, and folds to nodes()', async () => {
    const cluster = newCluster()
    const a = create(cluster, 'a')
    await a.join()
    const events: ClusterEvent[] = []
    const reading = (async () => {
      for await (const event of a.watch()) events.push(event)
    })()
    for (const id of ['b', 'c', 'd']) {
      const node = create(cluster, id)
      await node.join()
      if (id === 'c') await node.leave()
    }
    await eventually(() => idsOf(a).join() === 'a,b,d')
    await eventually(() => events.length > 0 && fold([], events).length === 3)
    expect(fold([], events)).toEqual(a.nodes())
    expect(events[0]).toMatchObject({ type: 'snapshot', nodes: [{ id: 'a' }] })
    await a.close()
    await reading
  })

  it('ends by its signal, by return and by close', async () => {
    const a = create(newCluster(), 'a')
    await a.join()
    const controller = new AbortController()
    const byAbort = a.watch({ signal: controller.signal })
    const byClose = a.watch()
    await byAbort.next()
    await byClose.next()
    const pending = byAbort.next()
    controller.abort()
    expect(await pending).toEqual({ done: true, value: undefined })
    for await (const event of a.watch()) {
      expect(event.type).toBe('snapshot')
      break
    }
    await a.close()
    const rest: ClusterEvent[] = []
    for await (const event of byClose) rest.push(event)
    expect(rest).toEqual([])
    expect(() => a.watch()).toThrow(expect.objectContaining({ code: 'CLOSED' }))
  })
})

describe('use', () => {
  it('refuses wrong options before any I/O, naming the option', () => {
    const wrong = (options: object, option: string | null): void => {
      const base = { pool: clusters.pool, cluster: 'c', node: { name: 'n' } }
      expect(() => createClusterDiscovery({ ...base, ...options })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTIONS', option }),
      )
    }
    wrong({ cluster: '' }, 'cluster')
    wrong({ cluster: 'x'.repeat(1_025) }, 'cluster')
    wrong({ cluster: 7 }, 'cluster')
    wrong({ node: { name: 'a\0b' } }, 'node.name')
    wrong({ node: { id: '', name: 'n' } }, 'node.id')
    wrong({ node: { id: '\ud800', name: 'n' } }, 'node.id')
    wrong({ node: { name: 'n', metadata: { at: new Date() } } }, 'node.metadata.at')
    wrong({ heartbeatMs: Number.NaN }, 'heartbeatMs')
    wrong({ heartbeatMs: 10 }, 'heartbeatMs')
    wrong({ heartbeatMs: 3_000 }, 'ttlMs')
    wrong({ rejoin: 'yes' }, 'rejoin')
    wrong({ connect: 'x' }, 'connect')
    wrong({ pool: undefined }, 'pool')
    wrong({ listen: 5 }, 'listen')
    wrong({ heartBeatMs: 100 }, 'heartBeatMs')
    wrong({ node: { name: 'n', meta: {} } }, 'node.meta')
    const watched = create(newCluster(), 'a')
    expect(() => watched.watch({ maxqueue: 5 } as object)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'maxqueue' }),
    )
    const libcluster = { connectionString: database.url, nodeName: 'a@b', channelName: 'c', intervalMs: 5_000 }
    expect(() => createLibclusterDiscovery(libcluster)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'intervalMs' }),
    )
  })

  it('says what to do when the tables are missing', async () => {
    const elsewhere = create(newCluster(), 'a', { schema: 'nowhere' })
    await expect(elsewhere.join()).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    expect(elsewhere.self.state).toBe('joining')
  })

  it('asks for a join before drain, and takes metadata for it', async () => {
    const a = create(newCluster(), 'a')
    await expect(a.drain()).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
    await a.updateMetadata({ early: true })
    await a.leave()
    expect(a.nodes()).toEqual([])
    const [self] = await a.join()
    expect(self?.metadata).toEqual({ early: true })
    await a.leave()
    await a.leave()
    expect((await a.join()).map((node) => node.id)).toEqual(['a'])
  })

  it('is over after close', async () => {
    const a = create(newCluster(), 'a')
    await a.join()
    await Promise.all([a.close(), a.close()])
    await expect(a.join()).rejects.toMatchObject({ code: 'CLOSED' })
    expect(a.self.state).toBe('left')
    expect(a.isConnected).toBe(false)
  })

  it('survives a listener that throws', async () => {
    const errors: object[] = []
    const logger = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields: object) => errors.push(fields) }
    const cluster = newCluster()
    const a = create(cluster, 'a', { logger })
    await a.join()
    const heard: string[] = []
    a.on('join', () => {
      throw new Error('mine')
    })
    const stop = a.on('join', (event) => heard.push(event.node.id))
    await create(cluster, 'b').join()
    await eventually(() => heard.length === 1)
    stop()
    await create(cluster, 'c').join()
    await eventually(() => idsOf(a).length === 3)
    expect(heard).toEqual(['b'])
    expect(errors).toHaveLength(2)
  })
})
