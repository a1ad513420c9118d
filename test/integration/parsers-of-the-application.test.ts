import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { tryAcquireInTransaction } from '@x/lock-advisory'
import { checkFence, createTableLocker } from '@x/lock-table'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { types } from 'pg'
import { expect, it } from 'vitest'

const database = useDatabase()

type Parser = (text: string) => unknown

/** What applications do to have 64-bit integers as bigints or numbers and times as texts; and then something that nobody does. */
const parsers: readonly (readonly [string, (oid: number) => Parser])[] = [
  ['int8 as bigint', (oid) => (oid === 20 ? BigInt : types.getTypeParser(oid, 'text'))],
  [
    'int8 as number, times as text',
    (oid) => (oid === 20 ? Number : oid === 1184 ? String : types.getTypeParser(oid, 'text')),
  ],
  [
    'everything but text and booleans in a box',
    (oid) => (oid === 25 || oid === 16 ? types.getTypeParser(oid, 'text') : (text) => ({ text })),
  ],
]

it.each(parsers)('every package reads by itself on a pool with other parsers: %s', async (_, getTypeParser) => {
  const pool = database.pool({ types: { getTypeParser: getTypeParser as never } })
  await migrateLocks(pool)
  await migrateCluster(pool)
  await migrateInput(pool)

  await using locker = createTableLocker({ pool })
  const lock = await locker.acquire('key', { metadata: { by: 'test' } })
  expect(lock.fencingToken).toBeTypeOf('bigint')
  await lock.refresh()
  const waiting = locker.acquire('key')
  await eventually(async () => (await locker.status('key')).waiters === 1)
  const status = await locker.status('key')
  expect(status).toMatchObject({ isAcquired: true, metadata: { by: 'test' }, fencingToken: lock.fencingToken })
  expect(status.acquiredAt).toBeInstanceOf(Date)
  const client = await pool.connect()
  await client.query('BEGIN')
  await checkFence(client, { resource: 'card', token: lock.fencingToken ?? 0n })
  await expect(checkFence(client, { resource: 'card', token: 0n })).rejects.toMatchObject({ code: 'STALE_FENCE' })
  await client.query('ROLLBACK; BEGIN')
  expect(await tryAcquireInTransaction(client, { key: 'key' })).toBe(true)
  await client.query('ROLLBACK')
  client.release()
  await lock.release()
  await (await waiting).release()

  await using cluster = createClusterDiscovery({ pool, cluster: 'parsers', node: { name: 'a' } })
  await cluster.join()
  await eventually(() => cluster.nodes().some(({ name, joinedAt }) => name === 'a' && joinedAt instanceof Date))
  await cluster.leave()

  await pool.query(
    'CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, at timestamptz DEFAULT now()); TRUNCATE orders',
  )
  await using input = createLeaderInput<{ orders: { id: string; at: string } }>({
    name: 'orders',
    pool,
    locker,
    tables: ['orders'],
  })
  await input.install()
  const stop = new AbortController()
  const ids: unknown[] = []
  const running = input.run((events) => void ids.push(...events.map(({ id }) => id)), { signal: stop.signal })
  await pool.query('INSERT INTO orders VALUES (9007199254740993)')
  await eventually(() => ids.includes('9007199254740993'))
  await eventually(async () => (await input.lag()).events === 0)
  stop.abort()
  await running
  await input.uninstall()
})
