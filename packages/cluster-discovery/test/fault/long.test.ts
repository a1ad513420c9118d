import { setTimeout as delay } from 'node:timers/promises'
import { randomSource, type TcpProxy, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { clusterTables } from '../database.ts'
import { ObservedCluster, pace } from './observed-cluster.ts'

const database = useDatabase({ template: clusterTables })
const minutes = Number(process.env.COORDINATION_LONG_MINUTES ?? 10)
const seed = Number(process.env.COORDINATION_SEED ?? Date.now() % 1e6)

describe.skipIf(process.env.COORDINATION_LONG !== '1')('long runs, COORDINATION_LONG=1', () => {
  it(`${minutes} minutes of pauses and cut connections shorter than the ttl bring no false down (seed ${seed})`, {
    timeout: minutes * 60_000 + 120_000,
  }, async () => {
    const random = randomSource(seed)
    await using cluster = new ObservedCluster(database.url, database.pool({ max: 10 }))
    const proxies: TcpProxy[] = []
    await cluster.join('a')
    await cluster.join('pooled', { listen: false })
    const children = []
    for (let index = 0; index < 8; index += 1) {
      const proxy = await tcpProxy(database.url)
      proxies.push(proxy)
      children.push({
        proxy,
        child: await cluster.spawn(`child-${index}`, { url: proxy.url(database.url) }),
        busy: false,
      })
    }
    await cluster.settle()
    const endAt = performance.now() + minutes * 60_000
    const faults: Promise<void>[] = []
    while (performance.now() < endAt) {
      await delay(200 + random.next() * 800)
      const victim = children[Math.floor(random.next() * children.length)]
      if (victim === undefined || victim.busy) continue
      // One fault at a time for each: paused and cut at once is what a killed process looks like.
      victim.busy = true
      const pauses = random.next() < 0.5
      const lasts = random.next() * pace.ttlMs * 0.5
      faults.push(
        (async () => {
          if (pauses) {
            victim.child.pause()
            await delay(lasts)
            victim.child.resume()
          } else victim.proxy.cut()
          await delay(pace.ttlMs)
          victim.busy = false
        })(),
      )
    }
    await Promise.all(faults)
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
    for (const { child } of children) await child.kill()
    for (const proxy of proxies) await proxy.close()
  })

  it('fifty processes that start in the same second agree, and all are seen to die when killed together', {
    timeout: 300_000,
  }, async () => {
    await using cluster = new ObservedCluster(database.url, database.pool({ max: 10 }))
    for (const id of ['a', 'b', 'c']) await cluster.join(id)
    const ids = Array.from({ length: 50 }, (_, index) => `process-${index}`)
    const children = await Promise.all(ids.map((id) => cluster.spawn(id)))
    await cluster.agree(['a', 'b', 'c', ...ids], 60_000)
    await cluster.check()
    await cluster.settle()
    for (const id of ids) cluster.disturb(id)
    await Promise.all(children.map((child) => child.kill()))
    // So many at once look like a database in trouble: they are given one more ttl.
    await cluster.agree(['a', 'b', 'c'], 3 * pace.ttlMs + 10_000)
    expect(cluster.downs()).toHaveLength(50)
    await cluster.check()
  })

  it('twenty processes that are restarted one after the other bring no down event to anybody', {
    timeout: 300_000,
  }, async () => {
    await using cluster = new ObservedCluster(database.url, database.pool({ max: 10 }))
    await cluster.join('listening')
    await cluster.join('pooled', { listen: false })
    const ids = Array.from({ length: 20 }, (_, index) => `process-${index}`)
    const children = await Promise.all(ids.map(async (id) => ({ id, child: await cluster.spawn(id) })))
    await cluster.agree(['listening', 'pooled', ...ids], 60_000)
    for (const { id, child } of children) {
      child.send({ do: 'close' })
      await child.exited
      await cluster.spawn(id)
    }
    await cluster.agree(['listening', 'pooled', ...ids], 60_000)
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })
})
