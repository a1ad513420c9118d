import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { channelName } from '@x/pg-session'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { newCluster, useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'

const database = useDatabase({ template: clusterTables })
const { create } = useClusters(database, { listens: true, heartbeatMs: 60_000, ttlMs: 180_000 })

/** When each node began a read, how many of its reads brought something, and how often it has beaten. */
const reads = new Map<string, number[]>()
const fruitful = new Map<string, number>()
const beats = new Map<string, number>()
const readsOf = (id: string): readonly number[] => reads.get(id) ?? []
const countOf = (counts: ReadonlyMap<string, number>, id: string): number => counts.get(id) ?? 0
const property = (message: unknown, name: string): unknown => Reflect.get(Object(message), name)
const listeners = {
  'tracing:coordination:cluster.read:start': (message: unknown) => {
    const id = String(property(message, 'id'))
    reads.set(id, [...readsOf(id), performance.now()])
  },
  'tracing:coordination:cluster.read:asyncEnd': (message: unknown) => {
    const id = String(property(message, 'id'))
    if (Number(property(message, 'records')) > 0) fruitful.set(id, countOf(fruitful, id) + 1)
  },
  'tracing:coordination:cluster.beat:asyncEnd': (message: unknown) => {
    const id = String(property(message, 'id'))
    beats.set(id, countOf(beats, id) + 1)
  },
}
beforeEach(() => {
  for (const counts of [reads, fruitful, beats]) counts.clear()
  for (const [name, listener] of Object.entries(listeners)) subscribe(name, listener)
})
afterEach(() => {
  for (const [name, listener] of Object.entries(listeners)) unsubscribe(name, listener)
})

describe('a notification', () => {
  it('is sent for each change and for no beat, and spares its reader the read', async () => {
    const cluster = newCluster()
    const heard: unknown[] = []
    const client = await database.client()
    client.on('notification', ({ payload = '' }) => heard.push(JSON.parse(payload).v))
    await client.query(`LISTEN "${channelName(`cluster_coordination_${cluster}`)}"`)
    const b = create(cluster, 'b', { heartbeatMs: 50 })
    await b.join()
    const a = create(cluster, 'a')
    await a.join()
    // This one has to be read; whatever else there was to read when it joined is over then.
    await b.updateMetadata({ big: 'x'.repeat(10_000) })
    await eventually(() => a.version === b.version)
    const read = countOf(fruitful, 'a')
    expect(read).toBeGreaterThan(0)
    await b.updateMetadata({ big: null })
    for (let round = 1; round <= 5; round += 1) {
      await b.updateMetadata({ round })
      await eventually(() => a.nodes({ metadata: { round } }).length === 1)
    }
    const beaten = countOf(beats, 'b')
    await eventually(() => countOf(beats, 'b') >= beaten + 10)
    expect(countOf(fruitful, 'a')).toBe(read)
    await eventually(() => heard.length >= 9)
    expect(heard).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
    await client.end()
  })

  it('that brings only the version makes a reader read, at most twice a second however often it comes', async () => {
    const cluster = newCluster()
    const b = create(cluster, 'b')
    await b.join()
    const a = create(cluster, 'a')
    await a.join()
    const before = readsOf('a').length
    let changes = 0
    while (changes < 20 || readsOf('a').length < before + 4) {
      changes += 1
      await b.updateMetadata({ changes, big: 'x'.repeat(10_000) })
    }
    // The first of them may be one that its join asked for.
    const paced = readsOf('a').slice(before + 1)
    for (const [index, at] of paced.slice(1).entries()) expect(at - (paced[index] ?? at)).toBeGreaterThan(400)
    await eventually(() => a.nodes({ metadata: { changes } }).length === 1)
  })
})
