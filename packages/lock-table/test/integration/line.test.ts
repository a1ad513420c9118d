import { setTimeout as delay } from 'node:timers/promises'
import type { Lock } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { createTableLocker, type TableLocker } from '../../src/index.ts'
import { gatedPool } from '../support/gated-pool.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

const waiters = (locker: TableLocker, key: string, count: number): Promise<void> =>
  expect.poll(async () => (await locker.status(key)).waiters).toBe(count)

/** A lock that came out of the line of its key; nothing renews it but the confirmation of its claim. */
const handedOver = async (locker: TableLocker, key: string): Promise<Lock> => {
  const lock = await locker.acquire(key, { renew: 'manual', ttlMs: 60_000 })
  const waiting = locker.acquire(key, { renew: 'manual', ttlMs: 60_000 })
  await waiters(locker, key, 1)
  await lock.release()
  return waiting
}

/** Milliseconds from the grant of the key to the end of its lease, as the database has them. */
const leaseOf = async (locker: TableLocker, key: string): Promise<number> => {
  const { acquiredAt, expiresAt } = await locker.status(key)
  return Number(expiresAt) - Number(acquiredAt)
}

describe('the line', () => {
  it('wakes the process whose turn it is, and no other', async () => {
    await using first = createTableLocker({ connectionString: database.url })
    await using second = createTableLocker({ connectionString: database.url, pollMs: 600_000 })
    await using third = createTableLocker({ connectionString: database.url, pollMs: 600_000 })
    const lock = await first.acquire('wake')
    const next = second.acquire('wake')
    await waiters(first, 'wake', 1)
    const last = third.acquire('wake')
    await waiters(first, 'wake', 2)
    const { rows } = await database
      .pool()
      .query('SELECT DISTINCT channel FROM coordination.lock_sessions WHERE channel IS NOT NULL')
    expect(rows.length).toBeGreaterThanOrEqual(1)
    // Long before any poll.
    await lock.release()
    await (await next).release()
    await (await last).release()
  })

  it('shows the holder that it was handed to, and nothing of the one before', async () => {
    const connectionString = database.url
    await using first = createTableLocker({ connectionString, acquirer: { name: 'first', address: '10.0.0.1' } })
    await using second = createTableLocker({ connectionString, acquirer: { name: 'second' }, pollMs: 100 })
    const lock = await first.acquire('handed', { metadata: { job: 'one' } })
    const waiting = second.acquire('handed', { metadata: { job: 'two' } })
    await waiters(first, 'handed', 1)
    await lock.release()
    const next = await waiting
    expect(next.fencingToken).toBeGreaterThan(lock.fencingToken ?? 0n)
    const { sessionId, fencingToken } = next
    expect(await first.status('handed')).toMatchObject({
      sessionId,
      fencingToken,
      acquirerName: 'second',
      acquirerAddress: null,
      metadata: { job: 'two' },
      waiters: 0,
    })
    await next.release()
    expect(await first.status('handed')).toMatchObject({ isAcquired: false, sessionId: null, metadata: null })
  })

  it('passes over a head that does not confirm, and over one whose session lapsed, and deletes their tickets', async () => {
    await using locker = createTableLocker({ connectionString: database.url, pollMs: 50, claimMs: 1_500 })
    const lock = await locker.acquire('dead')
    const client = await database.client()
    // Two waiters of processes that are gone: one whose session lives on for a while, one whose session has lapsed.
    await client.query(
      `INSERT INTO coordination.lock_sessions (session_id, expires_at)
       VALUES ('silent', now() + interval '1 minute'), ('lapsed', now() - interval '1 second')`,
    )
    for (const session of ['lapsed', 'silent']) {
      await client.query(
        `WITH numbered AS (UPDATE coordination.locks SET line = nextval('coordination.lock_tickets') WHERE key = 'dead' RETURNING line)
         INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared) SELECT 'dead', line, $1::text, 'owner-' || $1::text, false FROM numbered`,
        [session],
      )
    }
    const waiting = locker.acquire('dead')
    await waiters(locker, 'dead', 2)
    await lock.release()
    expect((await locker.status('dead')).sessionId).toBe('owner-silent')
    const next = await waiting
    expect(next.isHeld()).toBe(true)
    const { rows } = await client.query(
      `SELECT count(*)::int AS tickets FROM coordination.lock_waiters WHERE key = 'dead'`,
    )
    expect(rows).toEqual([{ tickets: 0 }])
    await next.release()
    await client.end()
  })

  it('gives a lease of the ttl that was asked for, also when the claim time is longer', async () => {
    await using locker = createTableLocker({ connectionString: database.url, pollMs: 50, claimMs: 60_000 })
    const lock = await locker.acquire('short')
    const waiting = locker.acquire('short', { ttlMs: 400, renew: 'manual' })
    await waiters(locker, 'short', 1)
    await lock.release()
    const short = await waiting
    expect(short.remainingMs()).toBeLessThanOrEqual(400)
    const next = await locker.acquire('short', { waitTimeoutMs: 20_000 })
    expect(short.isHeld()).toBe(false)
    await next.release()
  })

  it.each(['auto', 'manual'] as const)(
    'gives a lease of the ttl where the claim time is shorter (%s)',
    async (renew) => {
      await using locker = createTableLocker({ connectionString: database.url, pollMs: 50, claimMs: 300 })
      const key = `long/${renew}`
      const lock = await locker.acquire(key)
      const waiting = locker.acquire(key, { renew })
      await waiters(locker, key, 1)
      await lock.release()
      const next = await waiting
      await expect.poll(() => next.remainingMs()).toBeGreaterThan(10_000)
      expect(await leaseOf(locker, key)).toBeGreaterThanOrEqual(30_000)
      await next.release()
    },
  )

  it.each(['before its claim is confirmed', 'while its claim is being confirmed'])(
    'a lock that comes out of it can be refreshed %s: one after the other, or the claim may be what stays',
    async (when) => {
      const gate = gatedPool(database.pool({ max: 4 }), 'lock_renew')
      await using locker = createTableLocker({ pool: gate.pool, listen: database.url, pollMs: 50, claimMs: 60_000 })
      // From now on nothing goes before a lease of this length.
      await (await locker.acquire('admitted', { ttlMs: 600_000 })).release()
      const next = await handedOver(locker, when)
      if (when.startsWith('while')) await expect.poll(() => gate.arrived).toBe(1)
      const refreshed = next.refresh(600_000)
      await expect.poll(() => gate.arrived).toBe(1)
      // Timers fire in their order, and the one that confirms the claim is set to a tenth of this.
      await delay(100)
      expect(gate.arrived).toBe(1)
      gate.open()
      await refreshed
      expect(gate.arrived).toBe(2)
      expect(next.remainingMs()).toBeGreaterThan(500_000)
      expect(await leaseOf(locker, when)).toBeGreaterThanOrEqual(600_000)
      await next.release()
    },
  )

  it('a line of the dead before a free key does not keep a newcomer out', async () => {
    await using locker = createTableLocker({ connectionString: database.url })
    await database.pool().query(
      `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at, line)
       VALUES ('ghosts', true, 'ghost', 1, now() - interval '1 minute', 7)`,
    )
    await database
      .pool()
      .query(
        `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared) VALUES ('ghosts', 7, 'nobody', 'nobody', false)`,
      )
    const lock = await locker.tryAcquire('ghosts')
    expect(lock?.isHeld()).toBe(true)
    await lock?.release()
  })

  it('a session that lapsed enters again and is served', async () => {
    await using holder = createTableLocker({ connectionString: database.url })
    await using waiter = createTableLocker({ connectionString: database.url, pollMs: 100 })
    const lock = await holder.acquire('lapse')
    const waiting = waiter.acquire('lapse')
    await waiters(holder, 'lapse', 1)
    await database.pool().query(`DELETE FROM coordination.lock_waiters WHERE key = 'lapse'`)
    await waiters(holder, 'lapse', 1)
    await lock.release()
    await (await waiting).release()
  })

  it('takes in whoever comes while it stands before a key that nobody holds', async () => {
    await using locker = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 600_000 })
    // As during the quiet time after a failover: nothing is handed off, and nothing granted.
    await database.pool().query(`INSERT INTO coordination.locks (key, line) VALUES ('quiet', 7)`)
    await database.pool().query(`UPDATE coordination.lock_timeline SET quiet_until = now() + interval '1 hour'`)
    const over = new AbortController()
    const waiting = expect(locker.acquire('quiet', { signal: over.signal })).rejects.toThrow('over')
    await waiters(locker, 'quiet', 1)
    over.abort(new Error('over'))
    await waiting
    await database.pool().query(`UPDATE coordination.lock_timeline SET quiet_until = '-infinity'`)
  })

  it('goes on after a claim that was over before its waiter heard of it', async () => {
    await using holder = createTableLocker({ connectionString: database.url })
    await using locker = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 200 })
    const lock = await holder.acquire('late', { ttlMs: 60_000 })
    const waiting = locker.acquire('late')
    await waiters(holder, 'late', 1)
    const { rowCount } = await database.pool().query(
      `WITH served AS (DELETE FROM coordination.lock_waiters WHERE key = 'late' RETURNING owner)
       UPDATE coordination.locks l SET session_id = s.owner, fencing_token = l.fencing_token + 1,
         expires_at = now() - interval '1 second' FROM served s WHERE l.key = 'late'`,
    )
    expect(rowCount).toBe(1)
    const next = await waiting
    expect(next.isHeld()).toBe(true)
    expect(next.fencingToken).toBeGreaterThan((lock.fencingToken ?? 0n) + 1n)
    await next.release()
  })
})
