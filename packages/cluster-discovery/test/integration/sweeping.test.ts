import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { idsOf, newCluster, useClusters } from '../clusters.ts'
import { clusterTables } from '../database.ts'

const database = useDatabase({ template: clusterTables })
const ttlMs = 1_500
const clusters = useClusters(database, { listens: false, heartbeatMs: 200, ttlMs })
const { create } = clusters

const told: { readonly what: string; readonly message: object; readonly at: number }[] = []
const channels = ['held', 'down', 'self-down'].map((what) => `coordination:cluster.${what}`)
const listener = (message: unknown, name: string | symbol): void =>
  void told.push({
    what: String(name).replace('coordination:cluster.', ''),
    message: Object(message),
    at: performance.now(),
  })
const toldOf = (what: string) => told.filter((each) => each.what === what)
beforeEach(() => {
  told.length = 0
  for (const name of channels) subscribe(name, listener)
})
afterEach(() => {
  for (const name of channels) unsubscribe(name, listener)
})

it('holds a mass death for one more ttl and says so; of those who come back one stays away that was told to', async () => {
  const cluster = newCluster()
  const theirPool = database.pool({ max: 1 })
  const [a, b] = [create(cluster, 'a'), create(cluster, 'b')]
  const victims = ['c', 'd', 'e'].map((id) => create(cluster, id, { pool: theirPool, rejoin: id !== 'c' }))
  for (const each of [a, b, ...victims]) await each.join()
  await eventually(() => idsOf(a).length === 5)

  // Somebody keeps their only connection: no beat gets through.
  const connection = await theirPool.connect()
  try {
    const silentAt = performance.now()
    const { rows } = await clusters.pool.query<{ ms: number }>(
      `SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 * 1000 AS ms
       FROM coordination.node_beats WHERE cluster = $1 AND id IN ('c', 'd', 'e')`,
      [cluster],
    )
    const silentForMs = rows[0]?.ms ?? Number.NaN
    await eventually(() => toldOf('down').length === 3)
    expect(toldOf('held')[0]?.message).toMatchObject({ cluster, members: 5, remainingMs: expect.closeTo(ttlMs, 3) })
    for (const { message, at } of toldOf('down')) {
      expect(message).toMatchObject({ cluster, cause: 'ttl' })
      expect(at - silentAt).toBeGreaterThan(2 * ttlMs - silentForMs)
    }
    await eventually(() => idsOf(a).join() === 'a,b' && idsOf(b).join() === 'a,b')
  } finally {
    connection.release()
  }
  await eventually(() => idsOf(a).join() === 'a,b,d,e')
  await eventually(() => toldOf('self-down').some(({ message }) => Reflect.get(message, 'id') === 'c'))
  const [c] = victims
  const knownAt = performance.now()
  await eventually(() => performance.now() - knownAt > 600)
  expect(c?.self.state).toBe('down')
  await c?.join()
  expect(c?.self).toMatchObject({ state: 'up' })
  await eventually(() => idsOf(a).length === 5)
})

it('is taken over from a sweeper that is gone together with all who would stand by', async () => {
  const cluster = newCluster()
  const theirPool = database.pool({ max: 1 })
  const ids = Array.from({ length: 14 }, (_, index) => `node-${String(index).padStart(2, '0')}`)
  const seniors = ids.slice(0, 4)
  const nodes = ids.map((id) => create(cluster, id, seniors.includes(id) ? { pool: theirPool } : {}))
  const sweeper = async (): Promise<string | undefined> => {
    const { rows } = await clusters.pool.query<{ id: string }>(
      'SELECT id FROM coordination.cluster_sweepers WHERE cluster = $1',
      [cluster],
    )
    return rows[0]?.id
  }
  const [first, ...others] = nodes
  await first?.join()
  await eventually(async () => (await sweeper()) === 'node-00')
  for (const each of others) await each.join()
  const connection = await theirPool.connect()
  try {
    await eventually(async () => !seniors.includes((await sweeper()) ?? ''))
    await eventually(() => toldOf('down').length >= seniors.length)
    expect(
      toldOf('down')
        .map(({ message }) => String(Reflect.get(message, 'id')))
        .sort(),
    ).toEqual(seniors)
  } finally {
    connection.release()
  }
})
