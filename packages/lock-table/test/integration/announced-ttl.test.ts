import { useDatabase } from '@x/testkit/vitest'
import { beforeEach, describe, expect, it } from 'vitest'
import { createTableLocker, type TableLocker } from '../../src/index.ts'
import { grantWays, holderSql } from '../support/grant-ways.ts'
import { lockTable } from '../support/template.ts'
import { watchedPool } from '../support/watched-pool.ts'

const database = useDatabase({ template: lockTable })

beforeEach(() => database.pool().query('UPDATE coordination.lock_timeline SET max_ttl_ms = 1000'))

describe('after a failover nothing is granted for the longest ttl: it is announced before the first lease of that length', () => {
  const ttlMs = 77_000
  it.each<[string, (locker: TableLocker) => Promise<unknown>]>([
    ['acquire', (locker) => locker.acquire('one', { ttlMs })],
    ['shared', (locker) => locker.acquire('shared', { mode: 'shared', ttlMs })],
    ['all or none', async (locker) => locker.tryAcquireMany?.(['many/a', 'many/b'], { ttlMs })],
    ['refresh', async (locker) => (await locker.acquire('refreshed', { ttlMs: 500 })).refresh(ttlMs)],
  ])('%s', async (_, lease) => {
    const sent: string[] = []
    const pool = watchedPool(database.pool(), (name = 'unprepared', send) => {
      sent.push(name)
      return send()
    })
    await using locker = createTableLocker({ pool, wakeUps: 'poll', ttlMs: 500 })
    await (await locker.acquire('warm')).release()
    sent.length = 0
    await lease(locker)
    const announced = sent.findIndex((name) => name.startsWith('lock_raise_ttl'))
    const leased = sent.findLastIndex((name) => /^(lock_grant|lock_renew|unprepared)/.test(name))
    expect(announced).toBeGreaterThanOrEqual(0)
    expect(leased).toBeGreaterThan(announced)
    const { rows } = await database.pool().query('SELECT max_ttl_ms::int AS longest FROM coordination.lock_timeline')
    expect(rows).toEqual([{ longest: ttlMs }])
  })

  it('and never lowered', async () => {
    await using longer = createTableLocker({ pool: database.pool(), wakeUps: 'poll', ttlMs: 5_000 })
    await using shorter = createTableLocker({ pool: database.pool(), wakeUps: 'poll', ttlMs: 2_000 })
    await shorter.status('both look before either announces')
    for (const locker of [longer, shorter]) await (await locker.acquire('either')).release()
    const { rows } = await database.pool().query('SELECT max_ttl_ms::int AS longest FROM coordination.lock_timeline')
    expect(rows).toEqual([{ longest: 5_000 }])
  })
})

describe('a failover that nobody has noticed yet', () => {
  const failOver = 'UPDATE coordination.lock_timeline SET base = base - 1, max_ttl_ms = 60000'
  const calm = `UPDATE coordination.lock_timeline SET base = coordination.fencing_rebase(), quiet_until = '-infinity'`
  beforeEach(async () => {
    await database.pool().query(calm)
    await database.pool().query('TRUNCATE coordination.locks, coordination.lock_shares')
  })

  it.each(Object.entries(grantWays))('keeps %s from granting, also where it need not wait', async (_, grantTo) => {
    const client = await database.client()
    await client.query('BEGIN')
    await client.query(failOver)
    for (const afterFailover of [false, true]) await client.query(grantTo('key', 'me', 250, afterFailover))
    expect((await client.query(holderSql, ['key'])).rows).toEqual([])
    await client.query('ROLLBACK')
    await client.query(grantTo('key', 'me'))
    expect((await client.query(holderSql, ['key'])).rows).toEqual([{ holder: 'me' }])
    await client.end()
  })

  it.each(Object.entries(grantWays))('and its quiet time %s, unless it need not wait', async (_, grantTo) => {
    const client = await database.client()
    await client.query(`UPDATE coordination.lock_timeline SET quiet_until = now() + interval '1 hour'`)
    await client.query(grantTo('key', 'me'))
    expect((await client.query(holderSql, ['key'])).rows).toEqual([])
    await client.query(grantTo('key', 'me', 250, true))
    expect((await client.query(holderSql, ['key'])).rows).toEqual([{ holder: 'me' }])
    await client.end()
  })

  it.each([
    { afterFailover: 'wait', isGranted: false },
    { afterFailover: 'grant', isGranted: true },
  ] as const)('is noticed by the first who tries ($afterFailover)', async ({ afterFailover, isGranted }) => {
    await database.pool().query(failOver)
    await using locker = createTableLocker({ pool: database.pool(), wakeUps: 'poll', afterFailover })
    const lock = await locker.tryAcquire('first')
    expect(lock !== null).toBe(isGranted)
    const { rows } = await database
      .pool()
      .query(`SELECT quiet_until > now() + interval '30 seconds' AS quiet FROM coordination.lock_timeline`)
    expect(rows).toEqual([{ quiet: true }])
    await lock?.release()
  })
})
