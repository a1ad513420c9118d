import { randomUUID } from 'node:crypto'
import { eventually, pgbouncer, tcpProxy } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import type { ClusterDiscovery, ClusterEvent } from '../../src/index.ts'
import { clusterStatements } from '../../src/statements.ts'
import { idsOf, useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'
import { fold } from '../fold.ts'

const database = useDatabase({ template: clusterTables })
const clusters = useClusters(database, { listens: false, heartbeatMs: 200, ttlMs: 6_000 })
const { create } = clusters
const record = (discovery: ClusterDiscovery): ClusterEvent[] => {
  const events: ClusterEvent[] = []
  void (async () => {
    for await (const event of discovery.watch()) events.push(event)
  })()
  return events
}

describe('a reader that was away', () => {
  /** As the sweeper does when tombstones are old. */
  const prune = (cluster: string) =>
    clusters.pool.query({ text: clusterStatements('"coordination"', 'test').prune.text, values: [cluster, 0, 0] })

  it.each([
    ['of a leave as just that, when nobody has died', false, 'leave'],
    ['of a death, when the node may have died', true, 'down'],
  ])('takes the full view when the tombstones it missed are pruned, and learns %s', async (_, isReplaced, end) => {
    const cluster = randomUUID()
    const itsPool = database.pool({ max: 1 })
    const reader = create(cluster, 'reader', { pool: itsPool })
    await reader.join()
    const events = record(reader)
    const gone = create(cluster, 'gone')
    await gone.join()
    await eventually(() => idsOf(reader).length === 2)
    const connection = await itsPool.connect()
    const last = isReplaced ? create(cluster, 'gone') : gone
    // It has to know before the tombstone is gone: whoever finds no trace of a successor joins again.
    const replaced = new Promise((resolve) => gone.on('self-down', resolve))
    if (isReplaced) await Promise.all([last.join(), replaced])
    await last.leave()
    expect((await prune(cluster)).rows).toEqual([{ answer: '1' }])
    await create(cluster, 'new').join()
    connection.release()
    await eventually(() => idsOf(reader).join() === 'new,reader')
    await eventually(() => expect(fold([], events)).toEqual(reader.nodes()) ?? true)
    expect(events.map((event) => event.type)).toEqual(['snapshot', 'join', 'join', end])
  })

  it('learns of leaves and joins in between as just that, however many', async () => {
    const cluster = randomUUID()
    const itsPool = database.pool({ max: 1 })
    const reader = create(cluster, 'reader', { pool: itsPool })
    await reader.join()
    const events = record(reader)
    const restarted = create(cluster, 'same')
    await restarted.join()
    await eventually(() => idsOf(reader).length === 2)
    const connection = await itsPool.connect()
    for (let restart = 1; restart <= 3; restart += 1) {
      await restarted.leave()
      await restarted.join()
    }
    connection.release()
    await eventually(() => events.length === 4)
    expect(events.map((event) => event.type)).toEqual(['snapshot', 'join', 'leave', 'join'])
  })
})

describe('a rolling restart of twenty nodes', () => {
  it.each([
    ['with given ids', (index: number) => `node-${index}`],
    ['with random ids', () => randomUUID()],
  ])('%s brings no down event to anybody', async (_, idOf) => {
    const cluster = randomUUID()
    const listening = create(cluster, 'listening', { listen: database.url })
    const pooled = create(cluster, 'pooled')
    await Promise.all([listening.join(), pooled.join()])
    const seen = [record(listening), record(pooled)]
    const nodes = Array.from({ length: 20 }, (_, index) => create(cluster, idOf(index)))
    await Promise.all(nodes.map((node) => node.join()))
    await eventually(() => idsOf(pooled).length === 22 && idsOf(listening).length === 22)
    for (const [index, node] of nodes.entries()) {
      await node.drain()
      await node.close()
      const next = create(cluster, idOf(index))
      await next.join()
      nodes[index] = next
    }
    const version = nodes.at(-1)?.version ?? 0n
    await eventually(() => [listening, pooled].every((each) => each.version >= version))
    for (const [index, each] of [listening, pooled].entries()) {
      const events = seen[index] ?? []
      await eventually(() => expect(fold([], events)).toEqual(each.nodes()) ?? true)
      expect(each.nodes()).toHaveLength(22)
      expect(events.filter((event) => event.type === 'down')).toEqual([])
    }
  })
})

describe('a node that left and comes back', () => {
  it('reads everything: a failover in between may have given the versions that it knows to other changes', async () => {
    const cluster = randomUUID()
    const tables = ['cluster', 'nodes', 'node_beats']
    const a = create(cluster, 'a')
    await a.join()
    const client = await clusters.pool.connect()
    for (const table of tables) await client.query(`CREATE TEMP TABLE saved_${table} AS TABLE coordination.${table}`)
    const lost = create(cluster, 'lost')
    await lost.join()
    await eventually(() => idsOf(a).join() === 'a,lost')
    await a.leave()
    await lost.close()
    // What a standby has that missed the last commits.
    for (const table of tables) {
      const column = table === 'cluster' ? 'name' : 'cluster'
      await client.query(`DELETE FROM coordination.${table} WHERE ${column} = $1`, [cluster])
      await client.query(`INSERT INTO coordination.${table} SELECT * FROM saved_${table} WHERE ${column} = $1`, [
        cluster,
      ])
      await client.query(`DROP TABLE saved_${table}`)
    }
    client.release()
    for (const id of ['c', 'd', 'e']) await create(cluster, id).join()
    await a.join()
    expect(idsOf(a)).toEqual(['a', 'c', 'd', 'e'])
  })
})

describeWith('pgbouncer', 'behind a transaction pooler', () => {
  it('beats through it, says that it cannot listen there, and still sees changes with its beats', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction', poolSize: 2 })
    const url = pooler.url(database.url)
    const cluster = randomUUID()
    const warnings: string[] = []
    const logger = {
      debug: () => {},
      info: () => {},
      error: () => {},
      warn: (_: object, message: string) => warnings.push(message),
    }
    const poolThrough = database.pool({ connectionString: url, max: 4 })
    const nodes = ['a', 'b', 'c'].map((id) => create(cluster, id, { pool: poolThrough, listen: undefined, logger }))
    await Promise.all(nodes.map((node) => node.join()))
    await eventually(() => nodes.every((node) => idsOf(node).join() === 'a,b,c'))
    for (const node of nodes) expect(node.capabilities).toEqual({ listen: false, crashDetection: false })
    expect(warnings).toContain('this node cannot listen here; it will see changes with its next beat')
    const direct = create(cluster, 'direct', { pool: poolThrough, listen: undefined, connectionString: database.url })
    await direct.join()
    await eventually(() => direct.capabilities.listen && direct.capabilities.crashDetection)
    await eventually(() => nodes.every((node) => idsOf(node).length === 4))
    await clusters.closeAll()
    await poolThrough.end()
  })
})

describe('privileges', () => {
  const grants = `
    GRANT USAGE ON SCHEMA coordination TO runtime;
    GRANT SELECT ON coordination.schema_versions TO runtime;
    GRANT SELECT, INSERT, UPDATE, DELETE
       ON coordination.cluster, coordination.nodes, coordination.node_beats, coordination.cluster_sweepers TO runtime;`

  it('suffice as the README lists them, and the error names what is missing', async () => {
    const role = `runtime_${randomUUID().slice(0, 8)}`
    await clusters.pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`)
    try {
      const url = new URL(database.url)
      url.username = role
      url.password = 'x'
      const itsPool = database.pool({ connectionString: url.href, max: 2 })
      const node = create(randomUUID(), 'a', { pool: itsPool, listen: undefined, connectionString: url.href })
      await expect(node.join()).rejects.toMatchObject({ code: 'PRIVILEGE' })
      await clusters.pool.query(grants.replaceAll('runtime', role))
      await node.join()
      await eventually(() => node.capabilities.listen && node.capabilities.crashDetection)
      await node.drain()
      await node.close()
      await itsPool.end()
    } finally {
      await clusters.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    }
  })
})

describe('an unreachable database', () => {
  it('is a retryable ConnectionError that does not tell the password', async () => {
    const nowhere = database.pool({ connectionString: 'postgres://user:topsecret@127.0.0.1:1/none', max: 1 })
    const node = create(randomUUID(), 'a', { pool: nowhere })
    const error: unknown = await node.join().catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'CONNECTION', retryable: true })
    expect(String(error)).not.toContain('topsecret')
    expect(node.self.state).toBe('joining')
  })

  it('that comes later is shown as the last error, until it is back, also to who has no logger', async () => {
    await using proxy = await tcpProxy(database.url)
    const through = database.pool({ connectionString: proxy.url(database.url), max: 2 })
    const node = create(randomUUID(), 'a', { pool: through })
    expect(node.lastError).toBeNull()
    await node.join()
    await eventually(() => node.isConnected && node.lastError === null)
    proxy.refuse()
    proxy.cut()
    await eventually(() => node.lastError !== null)
    expect(node.lastError).toMatchObject({ code: 'CONNECTION', retryable: true })
    proxy.heal()
    await eventually(() => node.isConnected && node.lastError === null)
    await node.close()
    expect(node.lastError).toBeNull()
    await through.end()
  })

  it('of the listener alone is shown too: the node is a member and sees changes with its beats', async () => {
    const url = new URL(database.url)
    url.username = 'nobody-of-this-name'
    const node = create(randomUUID(), 'a', { listen: url.href })
    await node.join()
    await eventually(() => node.lastError !== null)
    expect(node.lastError).toMatchObject({ code: 'CONNECTION', retryable: false })
    expect([node.isConnected, node.capabilities.listen]).toEqual([true, false])
  })
})

describe('a mistake that only JavaScript lets pass', () => {
  it('is refused: a type of events that never comes, a listener that is none, a filter that would let everybody through', () => {
    const node = create(randomUUID(), 'a')
    const on: (type: unknown, listener: unknown) => unknown = (type, listener) =>
      Reflect.apply(node.on, node, [type, listener])
    expect(() => on('joined', () => {})).toThrow(
      'on: expected one of snapshot, join, leave, update, down, resync, self-down; got "joined"',
    )
    expect(() => on('join', undefined)).toThrow('on: expected a function to call; got nothing')
    expect(() => node.nodes({ state: 'up' } as object)).toThrow('option state: there is no such option; did you mean')
    expect(() => node.nodes({ states: 'up' as never })).toThrow('expected an array such as [\'up\']; got "up"')
  })
})
