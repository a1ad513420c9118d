import type { Lock } from '@x/lock-core'
import { eventually, startPrivatePostgres } from '@x/testkit'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

/** Nothing writes to the log on its own: what nobody waits for is lost in a crash that comes at once. */
const settings = { wal_writer_delay: '10s', autovacuum: false, checkpoint_timeout: '1h' }

it('a crash of the server undoes a release that nobody built on, and nothing else', async () => {
  await using server = await startPrivatePostgres({ durable: true, settings })
  // Of the role, which must not reach what has to be durable.
  const pool = new Pool({ connectionString: server.url, options: '-c synchronous_commit=off' })
  pool.on('error', () => {})
  await migrate(pool)
  const holder = createTableLocker({ pool, wakeUps: 'poll', pollMs: 100 })
  const other = createTableLocker({ pool, wakeUps: 'poll', pollMs: 100 })

  const kept = await holder.acquire('kept', { ttlMs: 2_000, minHoldMs: 60_000 })
  await kept.release()
  await server.restart('immediate')
  // A busy process may not have heard yet of the connections that the crash has ended.
  const ask = (sql: string, values: unknown[] = []) => eventually(() => pool.query(sql, values))
  const { rows } = await ask(
    `SELECT session_id, expires_at > clock_timestamp() + interval '10 seconds' AS long FROM coordination.locks`,
  )
  expect(rows).toEqual([{ session_id: null, long: true }])

  const keys = ['undone/0', 'undone/1', 'undone/2']
  const crash = async () => {
    const leasedAt = performance.now()
    const released = await Promise.all(keys.map((key) => holder.acquire(key, { ttlMs: 3_000 })))
    const followed = await holder.acquire('followed')
    await followed.release()
    const successor = await other.acquire('followed', { ttlMs: 60_000 })
    // Last, for a commit that waits for the disk takes along all that were before it.
    const [alone, ...many] = released
    await alone?.release()
    await Promise.all(many.map((lock) => lock.release()))
    await server.restart('immediate')
    const { rows: undone } = await ask(
      `SELECT session_id FROM coordination.locks WHERE key = ANY ($1) AND is_acquired ORDER BY key`,
      [keys],
    )
    expect(successor.isHeld()).toBe(true)
    await successor.refresh()
    expect(successor.fencingToken).toBeGreaterThan(tokenOf(followed))
    expect(await holder.tryAcquire('followed')).toBeNull()
    await successor.release()
    return { leasedAt, released, undone }
  }
  let crashed = await crash()
  // The log writer may have come by in just that moment.
  for (let again = 0; crashed.undone.length < keys.length && again < 5; again += 1) crashed = await crash()
  const { leasedAt, released, undone } = crashed
  expect(undone).toEqual(released.map((lock) => ({ session_id: lock.sessionId })))

  // Nobody renews what was released: the keys are free when their leases would have ended.
  const next = await Promise.all(keys.map((key) => other.acquire(key, { waitTimeoutMs: 30_000 })))
  expect(performance.now() - leasedAt).toBeGreaterThan(3_000)
  for (const [index, lock] of released.entries()) expect(next[index]?.fencingToken).toBeGreaterThan(tokenOf(lock))
  for (const lock of next) await lock.release()
  await holder.close()
  await other.close()
  await pool.end()
})

const tokenOf = (lock: Lock): bigint => lock.fencingToken ?? 0n
