import { primaryWithStandby, tcpProxy } from '@x/testkit'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

const ttlMs = 6_000

it.concurrent('after promotion of a standby that missed grants nothing is granted for a ttl, and tokens go on rising', async () => {
  await using servers = await primaryWithStandby()
  const { primary, standby, replication } = servers
  const pool = new Pool({ connectionString: primary.url })
  pool.on('error', () => {})
  await migrate(pool)
  const old = createTableLocker({ pool, ttlMs })
  const kept = await old.acquire('kept', { renew: 'manual' })
  await (await old.acquire('free')).release()
  await servers.caughtUp()

  // A holder and its waiter that are gone, and hear nothing more: all that is left of them on the new primary is a line.
  await using away = await tcpProxy(primary.port)
  const ghosts = createTableLocker({ connectionString: away.url(primary.url), ttlMs, wakeUps: 'poll', pollMs: 100 })
  await ghosts.acquire('lined', { ttlMs, renew: 'manual' })
  const ghost = ghosts.acquire('lined').catch(() => {})
  await expect.poll(async () => (await old.status('lined')).waiters).toBe(1)
  away.blackHole()
  // Not at once: what they had sent before may only now be carried out.
  await pool.query(
    `UPDATE coordination.locks SET expires_at = clock_timestamp() + interval '400 ms' WHERE key = 'lined'`,
  )
  await servers.caughtUp()

  // The standby hears of none of these.
  replication.blackHole()
  const missed = await old.acquire('free')
  for (let time = 0; time < 100; time += 1) await (await old.acquire('counted')).release()
  const last = await old.acquire('counted')
  await primary.halt('immediate')
  await servers.promote()

  await using successor = createTableLocker({ connectionString: standby.url, ttlMs, pollMs: 100 })
  // The first to come after the failover meets a line.
  const promoted = new Pool({ connectionString: standby.url, max: 1 })
  const isQuiet = async (): Promise<unknown> => {
    expect(await successor.tryAcquire('lined')).toBeNull()
    const { rows } = await promoted.query(
      'SELECT quiet_until > clock_timestamp() AS quiet FROM coordination.lock_timeline',
    )
    return rows[0]
  }
  await expect.poll(isQuiet).toEqual({ quiet: true })
  await promoted.end()
  // Free as far as the new primary knows; its holder still believes in it.
  expect(await successor.tryAcquire('free')).toBeNull()
  expect(missed.isHeld()).toBe(true)
  expect(await successor.tryAcquire('never heard of')).toBeNull()

  await using fearless = createTableLocker({ connectionString: standby.url, ttlMs, afterFailover: 'grant' })
  const early = await fearless.acquire('fenced elsewhere')
  expect(early.fencingToken).toBeGreaterThan(last.fencingToken ?? 0n)

  const next = await successor.acquire('free')
  expect(missed.isHeld()).toBe(false)
  expect(next.fencingToken).toBeGreaterThan(last.fencingToken ?? 0n)
  const counted = await successor.acquire('counted')
  expect(counted.fencingToken).toBeGreaterThan(last.fencingToken ?? 0n)
  await (await successor.acquire('lined')).release()
  // What the standby did hear of was respected to its end.
  expect(kept.isHeld()).toBe(false)
  await (await successor.acquire('kept')).release()

  away.refuse()
  away.cut()
  await ghosts.close()
  await ghost
  await old.close().catch(() => {})
  pool.on('error', () => {})
  await pool.end()
})

it.concurrent('a failover without a word costs a waiter one timeout, and not one for each idle connection', async () => {
  await using servers = await primaryWithStandby()
  await using front = await tcpProxy(servers.primary.port)
  const connectionString = front.url(servers.primary.url)
  const pool = new Pool({ connectionString, max: 10, idleTimeoutMillis: 0 })
  pool.on('error', () => {})
  await migrate(pool)
  await using holder = createTableLocker({ connectionString, ttlMs: 1_000 })
  const waiter = createTableLocker({ pool, ttlMs: 1_000, pollMs: 100 })
  const lock = await holder.acquire('held', { renew: 'manual' })
  const waiting = waiter.acquire('held')
  await expect.poll(async () => (await holder.status('held')).waiters).toBe(1)
  await Promise.all(Array.from({ length: 10 }, () => waiter.ping()))
  expect(pool.totalCount).toBe(10)
  await servers.caughtUp()

  // The old host vanishes: nobody resets its connections. Those that are opened from now on lead to the standby.
  front.halfOpen()
  front.retarget(servers.standby.port)
  await servers.primary.halt('immediate')
  await servers.promote()
  const startedAt = performance.now()
  const next = await waiting
  // Five seconds for a statement that nobody answers, and a ttl of quiet. One for each connection would be fifty.
  expect(performance.now() - startedAt).toBeLessThan(30_000)
  expect(lock.isHeld()).toBe(false)
  expect(next.fencingToken).toBeGreaterThan(lock.fencingToken ?? 0n)
  await next.release()
  await waiter.close()
  await pool.end()
})
