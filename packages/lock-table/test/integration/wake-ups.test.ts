import { setTimeout as delay } from 'node:timers/promises'
import { tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { createTableLocker, type TableLocker, type TableLockerOptions } from '../../src/index.ts'
import { gatedPool } from '../support/gated-pool.ts'
import { lockTable } from '../support/template.ts'
import { watchedPool } from '../support/watched-pool.ts'

const database = useDatabase({ template: lockTable })

/** No poll comes within a test, and no claim ends: whoever is served has been woken. */
const still = { pollMs: 600_000, claimMs: 120_000, ttlMs: 120_000 }
const open = (options: TableLockerOptions = {}): TableLocker =>
  createTableLocker({ ...still, ...(options.pool ? {} : { connectionString: database.url }), ...options })
const patience = { waitTimeoutMs: 60_000 } as const

const waiters = (locker: TableLocker, key: string, count: number): Promise<void> =>
  expect.poll(async () => (await locker.status(key)).waiters).toBe(count)

/** Where the processes that wait are to be woken. */
const channels = async (): Promise<string[]> => {
  const { rows } = await database
    .pool()
    .query('SELECT channel FROM coordination.lock_sessions WHERE channel IS NOT NULL ORDER BY 1')
  return rows.map(({ channel }) => channel)
}

describe('without any poll', () => {
  it('all shared waiters at the head of a line are woken, in every process', async () => {
    await using first = open()
    await using second = open()
    await using third = open()
    const lock = await first.acquire('shared')
    const waiting = [second, second, third].map((locker) => locker.acquire('shared', { mode: 'shared', ...patience }))
    await waiters(first, 'shared', 3)
    await expect.poll(channels).toHaveLength(2)
    await lock.release()
    for (const next of await Promise.all(waiting)) await next.release()
  })

  it('a shared waiter is let in when the one before it gives up', async () => {
    await using first = open()
    await using second = open()
    const lock = await first.acquire('left', { mode: 'shared' })
    const patient = new AbortController()
    const writer = second.acquire('left', { signal: patient.signal })
    await waiters(first, 'left', 1)
    const reader = first.acquire('left', { mode: 'shared', ...patience })
    await waiters(first, 'left', 2)
    patient.abort(new Error('no more'))
    await expect(writer).rejects.toThrow('no more')
    await (await reader).release()
    await lock.release()
  })

  it('a waiter follows a holder that says nothing more, when its lease is over', async () => {
    await using dead = open()
    await using locker = open()
    const lock = await dead.acquire('dead', { ttlMs: 1_000, renew: 'manual' })
    const next = await locker.acquire('dead', patience)
    expect(lock.isHeld()).toBe(false)
    await next.release()
  })

  it('a listener that comes up between the heartbeat and the ticket is told of at once', async () => {
    const gate = gatedPool(database.pool(), 'lock_enqueue')
    await using holder = open()
    await using locker = open({ pool: gate.pool, listen: database.url })
    const lock = await holder.acquire('announced')
    const waiting = locker.acquire('announced', patience)
    await expect.poll(() => gate.arrived).toBe(1)
    const listening = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'`
    await expect.poll(async () => (await database.pool().query(listening)).rows.length).toBeGreaterThan(0)
    // For the answer to the LISTEN to arrive; if it comes later still, the listener itself tells.
    await delay(200)
    gate.open()
    await expect.poll(channels).toHaveLength(1)
    await lock.release()
    await (await waiting).release()
  })

  it('a notification that comes before the ticket it is for is not forgotten', async () => {
    const opened = Promise.withResolvers<void>()
    let holdsBack = false
    let held = 0
    const pool = watchedPool(database.pool(), async (name, send) => {
      const answer = await send()
      if (holdsBack && name?.startsWith('lock_enqueue')) {
        held += 1
        await opened.promise
      }
      return answer
    })
    await using holder = open()
    await using locker = open({ pool, listen: database.url })
    for (const isEarly of [false, true]) {
      holdsBack = isEarly
      const lock = await holder.acquire('early')
      const waiting = locker.acquire('early', patience)
      await waiters(holder, 'early', 1)
      // The first time round the process says where it listens.
      await expect.poll(channels).toHaveLength(1)
      await lock.release()
      if (isEarly) {
        await expect.poll(() => held).toBe(1)
        // For the notification to arrive; if it comes later still, it finds its ticket.
        await delay(200)
        opened.resolve()
      }
      await (await waiting).release()
    }
  })
})

it('a process that does not hear any more says so, and is told of what it missed when it does again', async () => {
  await using proxy = await tcpProxy(database.url)
  await using holder = open()
  await using locker = open({ listen: proxy.url(database.url), pollMs: 100 })
  const lock = await holder.acquire('deaf')
  const waiting = locker.acquire('deaf', patience)
  await expect.poll(channels).toHaveLength(1)
  proxy.refuse()
  proxy.cut()
  await expect.poll(channels).toHaveLength(0)
  proxy.heal()
  await expect.poll(channels).toHaveLength(1)
  await lock.release()
  await (await waiting).release()
})
