import { startPrivatePostgres, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

describe('a database that is restarted', () => {
  it.each(['fast', 'immediate'] as const)('%s: leases, places in line and tokens outlive it', async (mode) => {
    await using server = await startPrivatePostgres({ durable: true })
    const pool = new Pool({ connectionString: server.url })
    pool.on('error', () => {})
    await migrate(pool)
    const holder = createTableLocker({ pool, ttlMs: 20_000, pollMs: 100 })
    const waiter = createTableLocker({ connectionString: server.url, ttlMs: 20_000, pollMs: 100 })
    const lock = await holder.acquire('held')
    const waiting = waiter.acquire('held')
    await expect.poll(async () => (await holder.status('held')).waiters).toBe(1)
    await server.restart(mode)
    await expect
      .poll(() =>
        holder.status('held').then(
          () => true,
          () => false,
        ),
      )
      .toBe(true)
    expect(lock.isHeld()).toBe(true)
    await lock.refresh()
    expect(await waiter.tryAcquire('held')).toBeNull()
    await lock.release()
    const next = await waiting
    expect(next.fencingToken).toBeGreaterThan(lock.fencingToken ?? 0n)
    await next.release()
    await waiter.close()
    await holder.close()
    await pool.end()
  })
})

describe('a pool that others have exhausted', () => {
  it('fails in time, costs leases only at their deadline, and is used again when it is free', async () => {
    const pool = database.pool({ max: 2 })
    await using locker = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50 })
    const lock = await locker.acquire('held', { ttlMs: 600 })
    const taken = [await pool.connect(), await pool.connect()]
    const failed = expect(locker.tryAcquire('other')).rejects.toMatchObject({ code: 'CONNECTION', retryable: true })
    await expect.poll(() => lock.signal.aborted).toBe(true)
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'deadline' })
    await failed
    for (const client of taken) client.release()
    await (await locker.acquire('other')).release()
  })
})

describe('a database that is silent', () => {
  it('does not keep close() for longer than five seconds', async () => {
    await using proxy = await tcpProxy(database.url)
    const locker = createTableLocker({ connectionString: proxy.url(database.url), wakeUps: 'poll', pollMs: 50 })
    const lock = await locker.acquire('silent')
    const waiting = locker.acquire('silent')
    await expect.poll(async () => (await locker.status('silent')).waiters).toBe(1)
    proxy.blackHole()
    const startedAt = performance.now()
    await Promise.all([locker.close(), expect(waiting).rejects.toMatchObject({ code: 'CLOSED' })])
    // Five, and what a busy machine takes.
    expect(performance.now() - startedAt).toBeLessThan(9_000)
    expect(lock.isHeld()).toBe(false)
    // What is still on its way need not wait for its timeout.
    proxy.refuse()
    proxy.cut()
  })
})

describe('a statement_timeout of the role', () => {
  it('is an error that can be tried again, and costs no lease', async () => {
    // For the statement that is blocked; any other is far from it on a busy machine, too.
    const pool = database.pool({ options: '-c statement_timeout=2000' })
    await using locker = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50 })
    const lock = await locker.acquire('held', { ttlMs: 20_000 })
    const blocker = await database.client()
    await (await locker.acquire('blocked')).release()
    await blocker.query('BEGIN')
    await blocker.query(`SELECT FROM coordination.locks WHERE key = 'blocked' FOR UPDATE`)
    await expect(locker.tryAcquire('blocked')).rejects.toMatchObject({
      code: 'QUERY_FAILED',
      retryable: true,
      sqlState: '57014',
    })
    await blocker.query('ROLLBACK')
    await (await locker.acquire('blocked')).release()
    expect(lock.isHeld()).toBe(true)
    await lock.release()
    await blocker.end()
  })
})

describe('a wall clock of the client that is wrong and steps', () => {
  afterEach(() => vi.restoreAllMocks())

  it('changes nothing', async () => {
    const real = Date.now
    let offMs = 3_600_000
    vi.spyOn(Date, 'now').mockImplementation(() => real() + offMs)
    await using locker = createTableLocker({ connectionString: database.url })
    await using other = createTableLocker({ connectionString: database.url, pollMs: 50 })
    const lock = await locker.acquire('clock', { ttlMs: 9_000 })
    for (const step of [-3_600_000, 86_400_000, 0]) {
      offMs = step
      expect(lock.isHeld()).toBe(true)
      expect(lock.remainingMs()).toBeLessThanOrEqual(9_000)
      expect(await other.tryAcquire('clock')).toBeNull()
    }
    const { expiresAt } = await locker.status('clock')
    expect(Math.abs((expiresAt?.getTime() ?? 0) - real())).toBeLessThan(60_000)
    await lock.release()
    await (await other.acquire('clock')).release()
  })
})

describe('a login that the server refuses from now on', () => {
  it.each(['poll', 'listen'] as const)(
    'ends those who wait (%s) with its error: nobody else would tell',
    async (wakeUps) => {
      const holder = createTableLocker({ pool: database.pool(), ttlMs: 60_000 })
      const held = await holder.acquire('refused')
      const role = `refused_${process.pid}_${wakeUps}`
      await database.pool().query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'right'`)
      const url = Object.assign(new URL(database.url), { username: role, password: 'right' })
      const pool = new Pool({ connectionString: url.href })
      pool.on('error', () => {})
      const locker = createTableLocker({ pool, wakeUps, pollMs: 100 })
      const waits = [locker.acquire('refused'), locker.acquire('refused', { waitTimeoutMs: 60_000 })].map((waiting) =>
        waiting.then(
          () => null,
          (error: unknown) => error,
        ),
      )
      await expect.poll(async () => (await holder.status('refused')).waiters).toBe(2)
      await database.pool().query(`ALTER ROLE ${role} NOLOGIN`)
      await database.pool().query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role])
      for (const waiting of waits) expect(await waiting).toMatchObject({ code: 'CONNECTION', retryable: false })
      await held.release()
      await locker.close()
      await holder.close()
      await pool.end()
      await database.pool().query(`DROP ROLE ${role}`)
    },
  )
})
