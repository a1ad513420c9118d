import { eventually, type PrivatePostgres, startPrivatePostgres, tcpProxy } from '@x/testkit'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate } from '../../src/migrations.ts'
import { ObservedCluster, pace } from './observed-cluster.ts'

let server: PrivatePostgres
let pool: Pool
beforeAll(async () => {
  server = await startPrivatePostgres()
  pool = new Pool({ connectionString: server.url, max: 10 })
  pool.on('error', () => {})
  await migrate(pool)
})
afterAll(async () => {
  await pool.end()
  await server.stop()
})

describe('a restart of the database', () => {
  it.each(['fast', 'immediate'] as const)(
    '(%s) kills nobody: neither silence nor lost markers are believed after it',
    async (mode) => {
      await using cluster = new ObservedCluster(server.url, pool)
      const nodes = await Promise.all(['a', 'b', 'c', 'd'].map((id) => cluster.join(id)))
      await cluster.agree(['a', 'b', 'c', 'd'])
      await cluster.settle()
      const resyncs = Promise.all(nodes.map((node) => new Promise((resolve) => node.on('resync', resolve))))
      await server.restart(mode)
      await resyncs
      await cluster.settle()
      expect(cluster.downs()).toEqual([])
      await eventually(() => nodes.every((node) => node.isConnected && node.self.state === 'up'))
      const late = await cluster.join('late')
      await cluster.agree(['a', 'b', 'c', 'd', 'late'])
      await late.leave()
      await cluster.check()
    },
  )

  it('after which the sweeper is back first: whoever comes later is not taken for crashed', async () => {
    await using proxy = await tcpProxy(server.url)
    await using cluster = new ObservedCluster(server.url, pool)
    await cluster.join('sweeper')
    const connectionString = proxy.url(server.url)
    const itsPool = new Pool({ connectionString, max: 2 })
    itsPool.on('error', () => {})
    const late = await cluster.join('late', { pool: itsPool, connectionString })
    await cluster.agree(['late', 'sweeper'])
    await cluster.settle()
    proxy.refuse()
    await server.restart('fast')
    const since = performance.now()
    await eventually(() => performance.now() - since > pace.ttlMs * 0.5, { deadlineMs: pace.ttlMs })
    proxy.heal()
    await eventually(() => late.isConnected && late.capabilities.crashDetection, { deadlineMs: 60_000 })
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
    await late.close()
    await itsPool.end()
  })

  it('longer than a ttl: everybody gets one ttl to come back', async () => {
    await using cluster = new ObservedCluster(server.url, pool)
    const nodes = await Promise.all(['a', 'b', 'c'].map((id) => cluster.join(id)))
    await cluster.agree(['a', 'b', 'c'])
    await cluster.settle()
    await server.halt('fast')
    await eventually(() => nodes.every((node) => node.self.state === 'down'), { deadlineMs: 3 * pace.ttlMs })
    await server.resume()
    await eventually(() => nodes.every((node) => node.isConnected && node.self.state === 'up'), { deadlineMs: 60_000 })
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })
})
