import { setTimeout as delay } from 'node:timers/promises'
import type { PgPool } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'
import { watchedPool } from '../support/watched-pool.ts'

const database = useDatabase({ template: lockTable })
const ttlMs = 30_000

interface SlowPool {
  readonly pool: PgPool
  /** When the last statement that a lease may come from was sent, on the monotonic clock. */
  readonly askedAt: number
  readonly names: string[]
}

/** A pool on which the answers that a lease is counted from take their time. */
const slowPool = (pool: Pool): SlowPool => {
  let askedAt = Number.NaN
  const names: string[] = []
  return {
    pool: watchedPool(pool, async (name = 'lock_grant_unprepared', send) => {
      if (!/^lock_(grant|renew|look)/.test(name)) return send()
      names.push(name.replace(/^lock_(.+?)_[0-9a-f]{8}.*$/, '$1'))
      askedAt = monotonicNow()
      const answer = await send()
      await delay(50)
      return answer
    }),
    get askedAt() {
      return askedAt
    },
    names,
  }
}

/** What is left of a lease of so many milliseconds that began when it was asked for, or before. */
const leftOf = (leaseMs: number, { askedAt }: SlowPool): number => leaseMs - (monotonicNow() - askedAt)

describe('a holder counts its lease from before it asked for it', () => {
  it.each([
    { statement: 'grant', keys: ['a'], warm: false, options: {} },
    { statement: 'grant_one', keys: ['a'], warm: true, options: {} },
    { statement: 'grant_alike', keys: ['a', 'b'], warm: true, options: {} },
    { statement: 'grant_free', keys: ['a', 'b'], warm: true, options: { apart: true } },
    { statement: 'grant_shared', keys: ['a'], warm: true, options: { mode: 'shared' as const } },
  ])(
    'granted by the statement $statement',
    async ({ statement, keys, warm, options: { apart = false, ...options } }) => {
      const slow = slowPool(database.pool())
      await using locker = createTableLocker({ pool: slow.pool, wakeUps: 'poll', ttlMs })
      if (warm) await (await locker.acquire('warm')).release()
      slow.names.length = 0
      const locks = await Promise.all(
        keys.map((key) => locker.acquire(key, { ...options, metadata: apart ? { key } : undefined })),
      )
      const most = leftOf(ttlMs, slow)
      for (const lock of locks) expect(lock.remainingMs()).toBeLessThanOrEqual(most)
      expect(slow.names).toContain(statement)
      for (const lock of locks) await lock.release()
    },
  )

  it('granted with other keys, all or none', async () => {
    const slow = slowPool(database.pool())
    await using locker = createTableLocker({ pool: slow.pool, wakeUps: 'poll', ttlMs })
    const locks = (await locker.tryAcquireMany?.(['all/a', 'all/b'])) ?? []
    const most = leftOf(ttlMs, slow)
    expect(locks).toHaveLength(2)
    for (const lock of locks) expect(lock.remainingMs()).toBeLessThanOrEqual(most)
    for (const lock of locks) await lock.release()
  })

  it.each(['exclusive', 'shared'] as const)('handed over (%s): the look that found it', async (mode) => {
    const slow = slowPool(database.pool())
    await using locker = createTableLocker({ pool: slow.pool, wakeUps: 'poll', pollMs: 60_000, claimMs: ttlMs, ttlMs })
    const key = `handed/${mode}`
    const lock = await locker.acquire(key)
    const waiting = locker.acquire(key, { mode })
    await expect.poll(async () => (await locker.status(key)).waiters).toBe(1)
    await lock.release()
    const next = await waiting
    const most = leftOf(ttlMs, slow)
    expect(next.remainingMs()).toBeLessThanOrEqual(most)
    expect(slow.names.at(-1)).toMatch(/^look/)
    await next.release()
  })

  it.each(['exclusive', 'shared'] as const)('renewed (%s)', async (mode) => {
    const slow = slowPool(database.pool())
    await using locker = createTableLocker({ pool: slow.pool, wakeUps: 'poll' })
    const lock = await locker.acquire(`renewed/${mode}`, { mode, ttlMs: 1_200 })
    let left = lock.remainingMs()
    await expect
      .poll(
        () => {
          const before = left
          left = lock.remainingMs()
          return left > before
        },
        { interval: 1 },
      )
      .toBe(true)
    const most = leftOf(1_200, slow)
    expect(lock.remainingMs()).toBeLessThanOrEqual(most)
    await lock.release()
  })
})
