import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate } from '@x/cluster-discovery/migrations'
import { monotonicMicros, tcpProxy } from '@x/testkit'
import { Pool } from 'pg'
import type { Benchmark, Contender, Figures, Row } from './benchmark.ts'
import { startHost, startHosts } from './cluster/hosts.ts'
import { type ServerCost, serverCost } from './cluster/server-cost.ts'
import { distribution } from './measure.ts'

/** The defaults of createClusterDiscovery: what is measured is what a user gets. */
const heartbeatMs = 2_000
const ttlMs = 8_000
const sweepMs = 1_000

/** A contender whose nodes are started for one round: a thousand of them beside those of another would disturb both. */
const simulation = (round: (url: string) => Promise<Figures>): Contender => ({
  open: async ({ url }) => ({ round: () => round(url), close: async () => {} }),
})

/** Nodes that only beat, for `seconds`, after they have settled. */
const beating = (nodes: number, listen: boolean, seconds: number): Contender =>
  simulation(async (url) => {
    await using hosts = await startHosts('ours', { url, cluster: randomUUID(), nodes, listen })
    hosts.record()
    await delay(2 * ttlMs)
    const cost = await serverCost(url, () => delay(seconds * 1_000))
    return { ...costFigures(nodes, listen, cost), falseDowns: hosts.downs().size }
  })

/** As many bare updates as so many nodes make beats: what no heartbeat in a table can do without. */
const bareBeats = (nodes: number, seconds: number): Contender =>
  simulation(async (url) => {
    const pool = new Pool({ connectionString: url, max: 1 })
    await pool.query('DROP TABLE IF EXISTS bare_beats')
    await pool.query('CREATE TABLE bare_beats (id text PRIMARY KEY, at timestamptz NOT NULL) WITH (fillfactor = 50)')
    await pool.end()
    await using _ = await startHosts('floor', { url, cluster: randomUUID(), nodes, listen: false })
    await delay(ttlMs)
    const cost = await serverCost(url, () => delay(seconds * 1_000))
    return { corePercentPer100: ((cost.cpuSeconds / cost.seconds) * 100 * 100) / nodes }
  })

/** A statement that is not known as what it is would be counted as one of the nodes'. */
const costFigures = (nodes: number, listen: boolean, cost: ServerCost): Figures => {
  for (const kind of ['beats', 'looks', ...(listen ? (['watches'] as const) : [])] as const) {
    if (cost[kind] === 0) throw new Error(`expected ${kind}, got none: see the words that server-cost.ts knows them by`)
  }
  return {
    statementsPerNodeSecond: (cost.statements - cost.sweeps) / nodes / cost.seconds,
    sweepsPerSecond: cost.sweeps / cost.seconds,
    lookMs: cost.lookMs,
    messagesPerSecond: cost.statements / cost.seconds,
    beatMs: cost.beatMs,
    walBytesPerBeat: cost.walBytes / cost.beats,
    corePercentPer100: ((cost.cpuSeconds / cost.seconds) * 100 * 100) / nodes,
  }
}

/** The same work by broadcast. A delivery and the answer to a NOTIFY are a message each. */
const broadcasting = (nodes: number, seconds: number): Contender =>
  simulation(async (url) => {
    await using hosts = await startHosts('broadcast', { url, cluster: randomUUID(), nodes, listen: true })
    await delay(2 * heartbeatMs)
    const heard = async (): Promise<number> => {
      const told = hosts.hosts.map((host) => host.messages.length)
      hosts.record()
      const counts = await Promise.all(
        hosts.hosts.map((host, index) =>
          host.message((message) => message.kind === 'heard' && host.messages.indexOf(message) >= (told[index] ?? 0)),
        ),
      )
      return counts.reduce((sum, message) => sum + (message.kind === 'heard' ? message.notifications : 0), 0)
    }
    const before = await heard()
    const cost = await serverCost(url, () => delay(seconds * 1_000))
    const delivered = (await heard()) - before
    return {
      messagesPerSecond: (delivered + cost.statements) / cost.seconds,
      corePercentPer100: ((cost.cpuSeconds / cost.seconds) * 100 * 100) / nodes,
    }
  })

/** A node joins and leaves, `times` over; until the last of all the others has seen it. */
const churning = (nodes: number, listen: boolean, times: number): Contender =>
  simulation(async (url) => {
    await using hosts = await startHosts('ours', { url, cluster: randomUUID(), nodes, listen })
    const pool = new Pool({ connectionString: url, max: 2 })
    hosts.record()
    // A thousand that have just started read rarely for a while, because each read took long.
    await delay(2 * ttlMs)
    const samples: number[] = []
    for (let time = 0; time < times; time += 1) {
      const id = `guest-${time}`
      const guest = createClusterDiscovery({ pool, cluster: hosts.cluster, node: { id, name: id }, listen: false })
      for (const change of ['join', 'leave'] as const) {
        // At another point of everybody's beat each time.
        await delay(Math.random() * heartbeatMs)
        const startedAt = Number(monotonicMicros())
        await (change === 'join' ? guest.join() : guest.leave())
        samples.push(((await hosts.seen(change, id)) - startedAt) / 1_000)
      }
      await guest.close()
    }
    await pool.end()
    return { ...inMs(samples), falseDowns: hosts.downs().size }
  })

/** One node after the other is lost to a cluster of 100; until the last of the others has seen it. */
const losing = (how: 'kill' | 'stop' | 'partition', times: number): Contender =>
  simulation(async (url) => {
    await using hosts = await startHosts('ours', { url, cluster: randomUUID(), nodes: 99, listen: true })
    hosts.record()
    // A sweeper believes in deaths after one ttl of contact.
    await delay(ttlMs + heartbeatMs)
    const samples: number[] = []
    const victims = new Set<string>()
    for (let time = 0; time < times; time += 1) {
      const id = `victim-${time}`
      victims.add(id)
      await using proxy = await tcpProxy(url)
      const victim = await startHost('ours', {
        url: proxy.url(url),
        cluster: hosts.cluster,
        prefix: id,
        nodes: 1,
        listen: true,
        pool: 2,
      })
      await hosts.seen('join', id)
      await delay(heartbeatMs + Math.random() * sweepMs)
      const startedAt = Number(monotonicMicros())
      if (how === 'kill') await victim.kill()
      else if (how === 'stop') victim.pause()
      else proxy.blackHole()
      samples.push(((await hosts.seen('down', id)) - startedAt) / 1_000)
      victim.resume()
      await victim.kill()
    }
    const falseDowns = [...hosts.downs()].filter((id) => !victims.has(id)).length
    return { ...inMs(samples), falseDowns }
  })

const inMs = (samples: readonly number[]): Figures => {
  const { p50Us = Number.NaN, p99Us = Number.NaN, maxUs = Number.NaN } = distribution(samples)
  return { p50Ms: p50Us / 1_000, p99Ms: p99Us / 1_000, maxMs: maxUs / 1_000, samples: samples.length }
}

const rows: readonly Row[] = [
  {
    id: 'C1',
    work: 'nodes that beat at the default pace; sweeper and standbys, a constant for the cluster, are counted apart',
    floor: 'one HOT update per node and heartbeat: 0.5 statements per node and second',
    rounds: 1,
    contenders: {
      'floor: 100 bare updates': bareBeats(100, 30),
      '10 nodes': beating(10, true, 30),
      '100 nodes': beating(100, true, 30),
      '1,000 nodes, pooled': beating(1_000, false, 30),
    },
    targets: [
      { of: '100 nodes', against: '10 nodes', figure: 'statementsPerNodeSecond', atMost: 1.1 },
      { of: '1,000 nodes, pooled', against: '10 nodes', figure: 'statementsPerNodeSecond', atMost: 1.1 },
      { of: '100 nodes', figure: 'beatMs', atMost: 0.3 },
      { of: '1,000 nodes, pooled', figure: 'beatMs', atMost: 0.3 },
      { of: '100 nodes', figure: 'corePercentPer100', atMost: 1.5 },
      { of: '1,000 nodes, pooled', figure: 'corePercentPer100', atMost: 1.5 },
      { of: '100 nodes', figure: 'falseDowns', atMost: 0 },
      { of: '1,000 nodes, pooled', figure: 'falseDowns', atMost: 0 },
    ],
  },
  {
    id: 'C2',
    work: 'a join or a leave, until the last of all nodes has seen it',
    floor: 'a durable commit and one notification; without LISTEN one heartbeat of 2,000 ms ± 20 %',
    rounds: 1,
    contenders: {
      '100 listening': churning(100, true, 25),
      '1,000 pooled': churning(1_000, false, 15),
    },
    targets: [
      { of: '100 listening', figure: 'p50Ms', atMost: 500 },
      { of: '100 listening', figure: 'p99Ms', atMost: 2_500 },
      { of: '1,000 pooled', figure: 'p50Ms', atMost: 1.2 * heartbeatMs },
      { of: '1,000 pooled', figure: 'p99Ms', atMost: 1.5 * heartbeatMs },
      { of: '1,000 pooled', figure: 'falseDowns', atMost: 0 },
    ],
  },
  {
    id: 'C3',
    work: 'a node of 100 is lost, until the last of the others has seen it',
    floor: 'one look a second and at least 300 ms to confirm a crash; one ttl of 8,000 ms for silence',
    rounds: 1,
    contenders: { 'kill -9': losing('kill', 15), stopped: losing('stop', 3), partitioned: losing('partition', 3) },
    targets: [
      { of: 'kill -9', figure: 'p50Ms', atMost: 1_200 },
      { of: 'kill -9', figure: 'maxMs', atMost: 2_000 },
      { of: 'stopped', figure: 'maxMs', atMost: ttlMs + 2 * sweepMs },
      { of: 'partitioned', figure: 'maxMs', atMost: ttlMs + 2 * sweepMs },
      { of: 'kill -9', figure: 'falseDowns', atMost: 0 },
      { of: 'stopped', figure: 'falseDowns', atMost: 0 },
      { of: 'partitioned', figure: 'falseDowns', atMost: 0 },
    ],
  },
  {
    id: 'C4',
    work: 'the membership of 100 nodes, one heartbeat every 2 s: answers and deliveries, a second',
    floor: 'the plain heartbeat broadcast: every node hears every other',
    rounds: 1,
    contenders: { broadcast: broadcasting(100, 20), ours: beating(100, true, 20) },
    targets: [{ of: 'ours', against: 'broadcast', figure: 'messagesPerSecond', atMost: 0.1 }],
  },
  {
    id: 'C5',
    work: 'a join or a leave among 1,000 nodes with a listener each, where the machine carries as many connections',
    floor: 'one notification to each of 1,000 backends',
    rounds: 1,
    contenders: { '1,000 listening': churning(1_000, true, 10) },
    targets: [],
  },
]

export const benchmark: Benchmark = {
  name: 'cluster',
  title: 'Cluster membership',
  settings: { max_connections: '1200', shared_preload_libraries: 'pg_stat_statements' },
  async rows({ url }) {
    const pool = new Pool({ connectionString: url, max: 1 })
    await migrate(pool)
    await pool.end()
    return rows
  },
}
