import { randomUUID } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import type { ClusterDiscovery, ClusterDiscoveryOptions } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'

const database = useDatabase({ template: clusterTables })
const clusters = useClusters(database, { listens: false, heartbeatMs: 100, ttlMs: 800 })
const create = (more: Partial<ClusterDiscoveryOptions> = {}): ClusterDiscovery =>
  clusters.create(randomUUID(), 'a', more)

describe('a policy', () => {
  it('whose breaker is open stops joins and updates, and costs no membership: beats and leaves bypass it', async () => {
    let isOpen = false
    const policy = {
      execute<T>(fn: (context: object) => Promise<T>): Promise<T> {
        return isOpen ? Promise.reject(new Error('the breaker is open')) : fn({})
      },
    }
    const node = create({ policy })
    await node.join()
    isOpen = true
    await expect(node.updateMetadata({ a: 1 })).rejects.toThrow('the breaker is open')
    const since = performance.now()
    await eventually(() => performance.now() - since > 1_600)
    // Two ttls later it is up only because beats are still answered.
    await eventually(() => node.self.state === 'up')
    await node.leave()
    expect(node.self.state).toBe('left')
    await expect(node.join()).rejects.toThrow('the breaker is open')
    expect(node.self.state).toBe('left')
  })
})

describe('the diagnostics channels', () => {
  it('carry joins, beats, reads, updates and leaves, and no connection string', async () => {
    const names = ['join', 'beat', 'read', 'update', 'leave'].map(
      (name) => `tracing:coordination:cluster.${name}:asyncEnd`,
    )
    const seen: [string, unknown][] = []
    const listener = (message: unknown, name: string | symbol): void =>
      void seen.push([String(name), { ...Object(message) }])
    for (const name of names) subscribe(name, listener)
    const node = create()
    await node.join()
    await eventually(() => seen.some(([name]) => name.includes('beat')))
    await node.updateMetadata({ a: 1 })
    await node.close()
    for (const name of names) {
      unsubscribe(name, listener)
      expect(seen.map(([each]) => each)).toContain(name)
    }
    expect(seen.find(([name]) => name.includes('beat'))?.[1]).toMatchObject({ id: 'a', incarnation: 1n, alive: true })
    const text = JSON.stringify(seen, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
    expect(text).not.toContain('postgres://')
  })
})

describe('two schemas', () => {
  it('on one connection are two worlds', async () => {
    await migrate(clusters.pool, { schema: 'Other "world"' })
    const single = database.pool({ max: 1 })
    const cluster = randomUUID()
    const here = create({ pool: single, cluster })
    const there = create({ pool: single, cluster, schema: 'Other "world"', node: { id: 'b', name: 'b' } })
    await Promise.all([here.join(), there.join()])
    expect(here.nodes().map((node) => node.id)).toEqual(['a'])
    expect(there.nodes().map((node) => node.id)).toEqual(['b'])
  })
})

describe('close', () => {
  it('ends within seconds although the database does not answer, and says so', async () => {
    await using proxy = await tcpProxy(database.url)
    const warnings: string[] = []
    const logger = {
      debug: () => {},
      info: () => {},
      error: () => {},
      warn: (_: object, text: string) => warnings.push(text),
    }
    const connectionString = proxy.url(database.url)
    const itsPool = database.pool({ connectionString, max: 2 })
    const node = create({ pool: itsPool, listen: connectionString, logger })
    await node.join()
    proxy.blackHole()
    const since = performance.now()
    await node.close()
    expect(performance.now() - since).toBeLessThan(10_000)
    expect(node.self.state).toBe('down')
    expect(warnings).toContain('could not leave; the others will notice by themselves')
    proxy.heal()
    proxy.cut()
  })

  it('does not wait for a join that hangs', async () => {
    await using proxy = await tcpProxy(database.url)
    const itsPool = database.pool({ connectionString: proxy.url(database.url), max: 2 })
    const node = create({ pool: itsPool })
    proxy.blackHole()
    const joining = node.join()
    const refused = expect(joining).rejects.toMatchObject({ code: 'CLOSED' })
    await eventually(() => proxy.open > 0, { what: 'the join to be on its way' })
    const since = performance.now()
    await node.close()
    await refused
    // A ttl of 800 ms for the join; its default would be 30 s.
    expect(performance.now() - since).toBeLessThan(10_000)
    proxy.cut()
  })
})
