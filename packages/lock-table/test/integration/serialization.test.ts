import type { PgPool } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, expect, it } from 'vitest'
import { createTableLocker, type TableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'
import { watchedPool } from '../support/watched-pool.ts'

const database = useDatabase({ template: lockTable })

beforeAll(async () => {
  await database.pool().query(`ALTER DATABASE "${database.name}" SET default_transaction_isolation = 'serializable'`)
})

/** A pool that notes the SQLSTATEs which its statements end with. */
const notingPool = (pool: Pool): { pool: PgPool; states: string[] } => {
  const states: string[] = []
  const noting = watchedPool(pool, (_, send) =>
    send().catch((error: { readonly code?: string }) => {
      states.push(error.code ?? 'none')
      throw error
    }),
  )
  return { pool: noting, states }
}

const waiting = `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`

/** What is done while another transaction changes the row of the key `what`, and commits when it is waited for. */
const work: Readonly<Record<string, (locker: TableLocker, key: string) => Promise<() => Promise<unknown>>>> = {
  async grant(locker, key) {
    await (await locker.acquire(key)).release()
    return async () => (await locker.acquire(key)).release()
  },
  async 'shared grant'(locker, key) {
    await (await locker.acquire(key)).release()
    return async () => (await locker.acquire(key, { mode: 'shared' })).release()
  },
  async renewal(locker, key) {
    const lock = await locker.acquire(key, { renew: 'manual' })
    return async () => {
      await lock.refresh()
      await lock.release()
    }
  },
  async release(locker, key) {
    const lock = await locker.acquire(key, { renew: 'manual' })
    return () => lock.release()
  },
  async 'place in line'(locker, key) {
    const lock = await locker.acquire(key, { renew: 'manual' })
    return async () => {
      const next = locker.acquire(key, { renew: 'manual' })
      await expect.poll(async () => (await locker.status(key)).waiters).toBe(1)
      await lock.release()
      await (await next).release()
    }
  },
  async 'hand-off'(locker, key) {
    const lock = await locker.acquire(key, { renew: 'manual' })
    const next = locker.acquire(key, { renew: 'manual' })
    await expect.poll(async () => (await locker.status(key)).waiters).toBe(1)
    return async () => {
      await lock.release()
      await (await next).release()
    }
  },
}

it.each(Object.keys(work))(
  'a %s that meets a serialization failure is run again, unseen by its caller',
  async (what) => {
    const { pool, states } = notingPool(database.pool())
    await using locker = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50, ttlMs: 60_000 })
    const go = await work[what]?.(locker, what)
    const other = await database.client()
    await other.query('BEGIN')
    await other.query('UPDATE coordination.locks SET key = key WHERE key = $1', [what])
    const watcher = await database.client()
    const done = go?.()
    await expect.poll(async () => (await watcher.query(waiting)).rows.length).toBeGreaterThan(0)
    expect(states).not.toContain('40001')
    await other.query('COMMIT')
    await done
    expect(states).toContain('40001')
    expect((await locker.status(what)).isAcquired).toBe(false)
    await other.end()
    await watcher.end()
  },
)
