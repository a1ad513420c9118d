import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { acquireInTransaction, createAdvisoryLocker, tryAcquireInTransaction } from '@x/lock-advisory'
import { hasErrorCode } from '@x/lock-core'
import { checkFence, createTableLocker } from '@x/lock-table'
import { migrate as migrateTable } from '@x/lock-table/migrations'
import { eventually, type Pgbouncer, pgbouncer } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

/** Each claim of docs/poolers.md. */
// The pooler keeps connections to the server under its last client's name: looked at when it is gone.
const database = useDatabase({ leakCheck: 'file' })

describeWith('pgbouncer', 'through PgBouncer', () =>
  describe.each(['transaction', 'session'] as const)('in %s mode', (mode) => {
    let pooler: Pgbouncer
    beforeAll(async () => {
      // In transaction mode fewer server connections than clients: they are handed on at every transaction.
      pooler = await pgbouncer({ url: database.url, mode, poolSize: mode === 'transaction' ? 3 : 30 })
    })
    afterAll(() => pooler.stop())
    const withPool = async (work: (pool: Pool) => Promise<void>): Promise<void> => {
      const pool = database.pool({ max: 8, connectionString: pooler.url(database.url) })
      try {
        await work(pool)
      } finally {
        await pool.end()
      }
    }

    it('migrations run, by several at once', () =>
      withPool(async (pool) => {
        for (const migrate of [migrateTable, migrateCluster, migrateInput]) {
          await Promise.all([migrate(pool), migrate(pool), migrate(pool)])
        }
      }))

    it('lock-table works in full with wake-ups by polling', () =>
      withPool(async (pool) => {
        await using one = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50 })
        await using two = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50 })
        const locks = await Promise.all(Array.from({ length: 50 }, (_, n) => one.acquire(`key ${n}`)))
        expect(await two.tryAcquire('key 7')).toBe(null)
        const waiting = two.acquire('key 7')
        await eventually(async () => (await one.status('key 7')).waiters === 1)
        await locks[7]?.release()
        const next = await waiting
        expect(next.fencingToken).toBeGreaterThan(locks[7]?.fencingToken ?? 0n)
        await Promise.all([next, ...locks.filter((_, n) => n !== 7)].map((lock) => lock.release()))
      }))

    if (mode === 'transaction') {
      it('lock-table listens past the pooler when it is given a direct connection', () =>
        withPool(async (pool) => {
          // Polls so seldom that only a notification can wake the waiter in time.
          const options = { pool, listen: database.url, pollMs: 60_000 }
          await using one = createTableLocker(options)
          await using two = createTableLocker(options)
          const lock = await one.acquire('woken')
          const waiting = two.acquire('woken', { waitTimeoutMs: 10_000 })
          await eventually(async () => (await one.status('woken')).waiters === 1)
          await lock.release()
          await (await waiting).release()
        }))
    }

    it('checkFence and locks in the caller’s transaction work', () =>
      withPool(async (pool) => {
        const [first, second] = [await pool.connect(), await pool.connect()]
        await first.query('BEGIN')
        await second.query('BEGIN')
        await checkFence(first, { resource: 'r', token: 1n })
        await acquireInTransaction(first, { key: 'nightly' })
        expect(await tryAcquireInTransaction(second, { key: 'nightly' })).toBe(false)
        await first.query('COMMIT')
        expect(await tryAcquireInTransaction(second, { key: 'nightly' })).toBe(true)
        await second.query('COMMIT')
        first.release()
        second.release()
      }))

    it('session locks are refused', async () => {
      await using locker = createAdvisoryLocker({ connectionString: pooler.url(database.url) })
      await expect(locker.acquire('x')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    })

    it('cluster-discovery works without LISTEN', () =>
      withPool(async (pool) => {
        const options = { pool, cluster: 'c', listen: false, heartbeatMs: 200, ttlMs: 2_000 } as const
        await using one = createClusterDiscovery({ ...options, node: { name: 'one' } })
        await using two = createClusterDiscovery({ ...options, node: { name: 'two' } })
        await one.join()
        await two.join()
        await eventually(() => one.nodes().length === 2)
        await two.leave()
        await eventually(() => one.nodes().length === 1)
      }))

    it('leader-input handles every change', () =>
      withPool(async (pool) => {
        await pool.query('CREATE TABLE orders (id int PRIMARY KEY)')
        await using locker = createTableLocker({ pool, wakeUps: 'poll' })
        const input = createLeaderInput<{ orders: { id: number } }>({
          pool,
          locker,
          name: 'orders',
          tables: ['orders'],
        })
        await input.install()
        const seen: string[] = []
        const running = input.run((events) => {
          seen.push(...events.map((event) => event.id ?? ''))
        })
        for (let n = 1; n <= 20; n += 1) await pool.query('INSERT INTO orders VALUES ($1)', [n])
        await eventually(() => seen.length === 20, { deadlineMs: 60_000 }).catch((error: unknown) => {
          throw new Error(`seen ${seen.length}`, { cause: input.health().lastError ?? error })
        })
        expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => String(n + 1)))
        await input.close()
        await running
        await pool.query('DROP TABLE orders')
      }))
  }),
)

describeWith('pgbouncer', 'through PgBouncer in session mode', () => {
  it('session locks work when told that the pooler pins sessions', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const connectionString = pooler.url(database.url)
    await using one = createAdvisoryLocker({ connectionString, pooler: 'session' })
    await using two = createAdvisoryLocker({ connectionString, pooler: 'session' })
    const lock = await one.acquire('x')
    expect(await two.tryAcquire('x')).toBe(null)
    const waiting = two.acquire('x')
    await lock.release()
    await (await waiting).release()
    await one.close()
    await two.close()
  })

  it('nobody else listens, and polling takes its place', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const pool = database.pool({ connectionString: pooler.url(database.url) })
    for (const migrate of [migrateTable, migrateCluster]) await migrate(pool)
    const refusals: unknown[] = []
    const note = (fields: object): void => {
      if ('err' in fields && hasErrorCode(fields.err, 'POOLER_DETECTED')) refusals.push(fields.err)
    }
    const logger = { debug: note, info: note, warn: note, error: note }
    try {
      const cluster = createClusterDiscovery({ pool, cluster: 'session', node: { name: 'one' }, logger })
      await cluster.join()
      await eventually(() => refusals.length > 0)
      expect(cluster.capabilities).toEqual({ listen: false, crashDetection: false })
      await cluster.close()
      refusals.length = 0
      const locker = createTableLocker({ pool, logger, pollMs: 50 })
      const lock = await locker.acquire('session')
      const waiting = locker.acquire('session', { waitTimeoutMs: 20_000 })
      await eventually(() => refusals.length > 0)
      await lock.release()
      await (await waiting).release()
      await locker.close()
    } finally {
      await pool.end()
    }
  })
})
