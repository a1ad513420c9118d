import type { LockMode, Policy } from '@x/lock-core'
import { tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { countingPool } from '../support/counting-pool.ts'
import { gatedPool } from '../support/gated-pool.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const { renew, renewShares } = tableStatements(tableNames('coordination', 'locks'))

describe('minHoldMs', () => {
  it.each<LockMode>(['exclusive', 'shared'])('a renewal that arrives late does not prolong it (%s)', async (mode) => {
    await using locker = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 })
    const lock = await locker.acquire(`late/${mode}`, { mode, ttlMs: 60_000, minHoldMs: 2_000 })
    await lock.release()
    const client = await database.client()
    // Sent by the holder before it released, and executed now.
    const late = await client.query(
      mode === 'exclusive'
        ? { text: renew.call.text, values: [[lock.key], [lock.fencingToken], '%', null, 60_000, false] }
        : {
            text: renewShares.call.text,
            values: [[lock.key], [lock.sessionId], [lock.fencingToken], null, 60_000, false],
          },
    )
    expect(late.rows).toEqual([{ renewed: null }])
    const { rows } = await client.query(
      `SELECT expires_at < clock_timestamp() + interval '3 seconds' AS soon
         FROM coordination.${mode === 'exclusive' ? 'locks' : 'lock_shares'} WHERE key = $1`,
      [lock.key],
    )
    expect(rows).toEqual([{ soon: true }])
    await client.end()
  })

  it('is kept when the answer to the release is lost', async () => {
    await using proxy = await tcpProxy(database.url)
    await using locker = createTableLocker({ connectionString: proxy.url(database.url), wakeUps: 'poll', pollMs: 50 })
    await using other = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 })
    const lock = await locker.acquire('kept', { minHoldMs: 30_000 })
    const swallowed = proxy.swallowNextReply({ matching: 'lock_keep' })
    await lock.release()
    await swallowed
    expect(await other.tryAcquire('kept')).toBeNull()
    expect((await other.status('kept')).isAcquired).toBe(true)
  })
})

describe('a policy that gives up', () => {
  const givesUp = new Error('the policy has no more patience')

  it('after the lock was granted: nobody has it for longer than it takes to give it back', async () => {
    await using other = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 })
    let impatient = false
    const policy: Policy = {
      async execute(fn) {
        const result = await fn({ signal: new AbortController().signal })
        if (impatient) throw givesUp
        return result
      },
    }
    await using locker = createTableLocker({ connectionString: database.url, wakeUps: 'poll', policy })
    await (await locker.acquire('forsaken')).release()
    impatient = true
    const failures = await Promise.allSettled([
      locker.acquire('forsaken'),
      locker.tryAcquire('forsaken/2'),
      locker.acquire('forsaken/shared', { mode: 'shared' }),
    ])
    expect(failures).toEqual(Array(3).fill({ status: 'rejected', reason: givesUp }))
    // The default ttl is 30 s.
    const locks = await Promise.all(
      ['forsaken', 'forsaken/2', 'forsaken/shared'].map((key) => other.acquire(key, { waitTimeoutMs: 10_000 })),
    )
    await Promise.all(locks.map((lock) => lock.release()))
  })

  it('before anything was sent: nothing is asked of the database', async () => {
    const counted = countingPool(database.pool({ max: 2 }))
    let open = false
    const policy: Policy = {
      execute: (fn) => (open ? Promise.reject(givesUp) : fn({ signal: new AbortController().signal })),
    }
    await using locker = createTableLocker({ pool: counted.pool, wakeUps: 'poll', policy })
    await (await locker.acquire('broken')).release()
    open = true
    counted.reset()
    await expect(locker.acquire('broken')).rejects.toBe(givesUp)
    expect(counted.statements()).toBe(0)
  })
})

it('a place in line that is served while it is being given up is passed on at once', async () => {
  const gate = gatedPool(database.pool(), 'lock_withdraw')
  await using other = createTableLocker({
    connectionString: database.url,
    wakeUps: 'poll',
    pollMs: 50,
    claimMs: 600_000,
  })
  await using locker = createTableLocker({ pool: gate.pool, wakeUps: 'poll', pollMs: 600_000 })
  const lock = await other.acquire('left')
  const over = new AbortController()
  const waiting = expect(locker.acquire('left', { signal: over.signal })).rejects.toThrow('no more')
  await expect.poll(async () => (await other.status('left')).waiters).toBe(1)
  over.abort(new Error('no more'))
  await expect.poll(() => gate.arrived).toBe(1)
  await lock.release()
  gate.open()
  await waiting
  await (await other.acquire('left', { waitTimeoutMs: 20_000 })).release()
})
