import type { AcquireOptions, Lock } from '@x/lock-core'
import { eventually, startPrivatePostgres, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { createAdvisoryLocker } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database, { wait: 'server', pollMs: 50 })

let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 2 })
})

const connectionsOf = async (name: string): Promise<number> => {
  const { rows } = await pool.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1',
    [name],
  )
  return rows[0]?.n ?? 0
}

describe('in the server’s queue', () => {
  it('processes are served in the order in which their first waiter came', async () => {
    const holder = await createLocker().acquire('key')
    const observer = createLocker()
    const order: number[] = []
    const turns: Promise<void>[] = []
    for (let place = 0; place < 6; place += 1) {
      const taken = createLocker().acquire('key')
      turns.push(
        taken.then(async (lock) => {
          order.push(place)
          await lock.release()
        }),
      )
      await eventually(async () => (await observer.status('key')).waiters === place + 1)
    }
    await holder.release()
    await Promise.all(turns)
    expect(order).toEqual([0, 1, 2, 3, 4, 5])
  })

  it('a locker with all its seats taken goes on by sleeping, within its connections', async () => {
    const others = createLocker({ wait: 'notify' })
    const keys = ['a', 'b', 'c', 'd', 'e']
    const held = new Map<string, Lock>()
    for (const key of keys) held.set(key, await others.acquire(key))
    const locker = createLocker({ maxConnections: 3, applicationName: 'three', idleMs: 60_000 })
    const waiting = new Map(keys.map((key) => [key, locker.acquire(key)]))
    for (const key of keys) await eventually(async () => (await others.status(key)).waiters === 1)
    const blocked = `SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
    await expect.poll(async () => (await pool.query<{ n: number }>(blocked)).rows).toEqual([{ n: 2 }])
    // The session, two seats, and the ear of those who sleep.
    await eventually(async () => (await connectionsOf('three')) === 4)
    // In any order: those who sleep do not depend on those who block.
    for (const key of keys.toReversed()) {
      await held.get(key)?.release()
      expect((await waiting.get(key))?.isHeld()).toBe(true)
    }
    for (const lock of waiting.values()) await (await lock).release()
  })

  it('a seat that is free again serves the next, and is closed when idle', async () => {
    const others = createLocker()
    const locker = createLocker({ maxConnections: 2, applicationName: 'one seat', idleMs: 200 })
    for (const key of ['a', 'b']) {
      const held = await others.acquire(key)
      const waiting = locker.acquire(key)
      await eventually(async () => (await others.status(key)).waiters === 1)
      await held.release()
      await (await waiting).release()
    }
    await eventually(async () => (await connectionsOf('one seat')) === 0)
  })

  describe('a seat on a line that swallows every byte', () => {
    /** A process that waits in the server's queue: the main session goes straight, the seat through a line that can go deaf. */
    const waitOnDeafLine = async (key: string, options: AcquireOptions = {}) => {
      const proxy = await tcpProxy(database.url)
      const holder = await createLocker().acquire(key)
      let opened = 0
      const locker = createLocker({
        detectMs: 3_000,
        connection: () => {
          opened += 1
          return { connectionString: opened === 2 ? proxy.url(database.url) : database.url }
        },
      })
      const waiting = locker.acquire(key, options)
      waiting.catch(() => {})
      const blocked = async (): Promise<number | undefined> => {
        const { rows } = await pool.query<{ pid: number }>(
          `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        )
        return rows[0]?.pid
      }
      const pid = await eventually(blocked)
      proxy.halfOpen()
      const anotherSeatBlocks = (): Promise<unknown> =>
        eventually(async () => {
          const now = await blocked()
          return now !== undefined && now !== pid
        })
      const noSeatBlocks = (): Promise<unknown> => eventually(async () => (await blocked()) === undefined)
      return { proxy, holder, locker, waiting, pid: pid ?? 0, anotherSeatBlocks, noSeatBlocks }
    }

    it('whose server process is gone is missed, and its waiter moves on', async () => {
      const { proxy, holder, waiting, pid, anotherSeatBlocks } = await waitOnDeafLine('gone')
      await terminateBackend(pool, pid)
      await anotherSeatBlocks()
      await holder.release()
      await (await waiting).release()
      await proxy.close()
    })

    it('whose grant was swallowed is missed, and its waiter moves on', async () => {
      const { proxy, holder, waiting, anotherSeatBlocks } = await waitOnDeafLine('granted unheard')
      await holder.release()
      await anotherSeatBlocks()
      // As the network would find out some time: only with its connection does the server end the session of the seat.
      proxy.cut()
      await (await waiting).release()
      await proxy.close()
    })

    it('keeps nobody from a key for whom it was given up', async () => {
      const { proxy, holder, locker, waiting, noSeatBlocks } = await waitOnDeafLine('given up', { waitTimeoutMs: 500 })
      await expect(waiting).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
      // Cancelled: a release before that would hand the lock to the session on the line.
      await noSeatBlocks()
      await holder.release()
      const lock = await locker.tryAcquire('given up')
      expect(lock?.isHeld()).toBe(true)
      await lock?.release()
      await proxy.close()
    })
  })
})

describe.each(['notify', 'server', 'poll'] as const)('a restart of the server (%s)', (wait) => {
  it('ends no wait: neither of the head of a line nor of those behind him, whenever they came', async () => {
    await using server = await startPrivatePostgres()
    const options = { connectionString: server.url, pollMs: 50, detectMs: 3_000 }
    await using holder = createAdvisoryLocker(options)
    await using locker = createAdvisoryLocker({ ...options, wait })
    const held = await holder.acquire('key')
    // Behind a lock of its own process as well, which ends with the server.
    const [owning, behind] = [locker.acquire('own'), locker.acquire('own')]
    const own = await owning
    const waiting = [behind, locker.acquire('key'), locker.acquire('key')]
    await eventually(async () => (await holder.status('key')).waiters >= 1)
    await server.halt('immediate')
    waiting.push(locker.acquire('key'))
    await expect(locker.acquire('key', { waitTimeoutMs: 300 })).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
    await eventually(() => !held.isHeld() && !own.isHeld())
    await server.resume()
    for (const lock of waiting) await (await lock).release()
  })

  it('that comes in the middle of a first try ends it neither; who comes while there is no server is told so', async () => {
    await using proxy = await tcpProxy(database.url)
    const locker = createLocker({ connection: proxy.url(database.url), wait, detectMs: 2_000 })
    await locker.ping()
    const unlimited = locker.acquire('a')
    const limited = locker.acquire('b', { waitTimeoutMs: 20_000 })
    proxy.refuse()
    proxy.cut()
    await eventually(() => proxy.open === 0)
    await expect(locker.acquire('c')).rejects.toMatchObject({ code: 'CONNECTION', retryable: true })
    proxy.heal()
    await (await unlimited).release()
    await (await limited).release()
    await locker.close()
  })
})
