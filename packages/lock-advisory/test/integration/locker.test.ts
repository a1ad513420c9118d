import { channel } from 'node:diagnostics_channel'
import { acquireMany, lockId } from '@x/lock-core'
import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { createAdvisoryLocker } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database)

let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 1 })
})

const connectionsOf = async (name: string): Promise<number> => {
  const { rows } = await pool.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1',
    [name],
  )
  return rows[0]?.n ?? 0
}

describe('options', () => {
  it('are checked before anything is connected', () => {
    const bad: readonly object[] = [
      {},
      { connectionString: 'postgres://db', pool: { options: {}, connect: () => {} } },
      { namspace: 1 },
      { namespace: 1.5 },
      { namespace: 2 ** 31 },
      { wait: 'sometimes' },
      { fencing: 'maybe' },
      { detectMs: 0 },
      { detectMs: Number.NaN },
      { pollMs: -1 },
      { idleMs: '5' },
      { maxLocks: 0 },
      { maxConnections: 0 },
      { pooler: 'ignore' },
      { applicationName: 'x'.repeat(64) },
      { applicationName: 'app\0options' },
      { schema: '' },
      { schema: 'x'.repeat(64) },
      { schema: 'a\0b' },
    ]
    for (const options of bad) {
      const where = Object.keys(options).length === 0 || 'pool' in options ? {} : { connectionString: 'postgres://db' }
      expect(() => createAdvisoryLocker({ ...where, ...options }), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTIONS' }),
      )
    }
  })

  it.each<[object, string]>([
    [{ namespace: 'app' }, 'option namespace: expected an integer of 32 bits, such as 7; got "app"'],
    [{ detectMs: '5s' }, 'expected milliseconds as a number, at least 100 and at most 2,147,483,647; got "5s"'],
    [{ connectionString: undefined }, 'got none, because connectionString is undefined'],
  ])('say what was expected of %j', (options, message) => {
    const where = 'connectionString' in options ? {} : { connectionString: 'postgres://db' }
    expect(() => createAdvisoryLocker({ ...where, ...options })).toThrow(message)
  })

  it('never show a password, neither in an error of the driver', async () => {
    const locker = createLocker({ connection: 'postgres://nobody:hunter2@127.0.0.1:1/none' })
    const error: unknown = await locker.tryAcquire('key').catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'CONNECTION', retryable: true })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('hunter2')
    const wrong = new URL(database.url)
    wrong.password = 'hunter2'
    const refused: unknown = await createLocker({ connection: wrong.href })
      .ping()
      .catch((reason: unknown) => reason)
    if (refused !== undefined) expect(String(refused)).not.toContain('hunter2')
  })
})

describe('the session', () => {
  it('is opened by the first acquire, shared by all locks, and closed when nobody needs it', async () => {
    const locker = createLocker({ applicationName: 'shared session', idleMs: 150 })
    expect(await connectionsOf('shared session')).toBe(0)
    const locks = await Promise.all(Array.from({ length: 50 }, (_, index) => locker.acquire(`key ${index}`)))
    expect(await connectionsOf('shared session')).toBe(1)
    expect(new Set(locks.map((lock) => lock.sessionId)).size).toBe(1)
    await Promise.all(locks.slice(1).map((lock) => lock.release()))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(locks[0]?.isHeld()).toBe(true)
    expect(await connectionsOf('shared session')).toBe(1)
    await locks[0]?.release()
    await eventually(async () => (await connectionsOf('shared session')) === 0)
    await (await locker.acquire('again')).release()
  })

  it('takes only the settings of a pool, never one of its clients', async () => {
    const pool = database.pool({ max: 1 })
    const busy = await pool.connect()
    const locker = createLocker({ pool })
    const lock = await locker.acquire('key')
    expect(pool.totalCount).toBe(1)
    await lock.release()
    busy.release()
  })

  it('asks a function for the connection each time', async () => {
    let asked = 0
    const locker = createLocker({
      connection: async () => {
        asked += 1
        return { connectionString: database.url }
      },
      idleMs: 50,
      applicationName: 'asked',
    })
    await (await locker.acquire('key')).release()
    await eventually(async () => (await connectionsOf('asked')) === 0)
    await (await locker.acquire('key')).release()
    expect(asked).toBe(2)
  })

  it('goes on waiting when the function for the connection fails or never answers for a while', async () => {
    const fails = [() => Promise.reject(new Error('the vault is sealed')), () => new Promise<never>(() => {})]
    let broken = false
    const locker = createLocker({
      connection: () => (broken ? fails.shift() : undefined)?.() ?? { connectionString: database.url },
      applicationName: 'vault',
      detectMs: 500,
    })
    const holder = createLocker()
    const held = await holder.acquire('vault')
    const waiter = locker.acquire('vault')
    waiter.catch(() => {})
    await eventually(async () => (await holder.status('vault')).waiters === 1)
    broken = true
    await pool.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vault'`)
    await eventually(() => fails.length === 0)
    await held.release()
    await (await waiter).release()
  })
})

describe('coalescing', () => {
  beforeAll(async () => {
    await pool.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements')
  })

  it('one caller pays one statement for an acquire and one for a release; a thousand pay a handful', async () => {
    await using proxy = await tcpProxy(database.url)
    const locker = createLocker({ connection: proxy.url(database.url) })
    await (await locker.acquire('warm')).release()
    const before = await statements()
    await (await locker.acquire('one')).release()
    expect((await statements()) - before).toBe(2)
    const beforeMany = await statements()
    const locks = await Promise.all(Array.from({ length: 1_000 }, (_, index) => locker.acquire(`many ${index}`)))
    await Promise.all(locks.map((lock) => lock.release()))
    expect((await statements()) - beforeMany).toBe(2)
  })

  const statements = async (): Promise<number> => {
    const { rows } = await pool.query<{ n: string }>(
      `SELECT coalesce(sum(calls), 0)::text AS n FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (query LIKE '%pg_try_advisory_lock%' OR query LIKE '%pg_advisory_unlock%')`,
    )
    return Number(rows[0]?.n)
  }
})

describe('within one process', () => {
  it('a key has one owner, although the session could take it again and again', async () => {
    const locker = createLocker()
    const lock = await locker.acquire('key')
    expect(await locker.tryAcquire('key')).toBe(null)
    expect(await locker.tryAcquire('key', { mode: 'shared' })).toBe(null)
    await expect(locker.acquire('key', { waitTimeoutMs: 20 })).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
    await lock.release()
    await (await locker.acquire('key')).release()
  })

  it('two namespaces are two sets of locks', async () => {
    const one = createLocker({ namespace: 1 })
    const two = createLocker({ namespace: 2 })
    const lock = await one.acquire('key')
    await (await two.acquire('key', { waitTimeoutMs: 0 })).release()
    await lock.release()
    expect(one.identityOf?.('key')).toBe(lockId(1, 'key'))
  })
})

describe('between processes', () => {
  it('who releases a lock lets those go first who were just told, newcomers of its own process too', async () => {
    const [locker, other] = [createLocker(), createLocker()]
    const lock = await locker.acquire('wanted')
    const waiting = other.acquire('wanted')
    await eventually(async () => (await locker.status('wanted')).waiters === 1)
    await lock.release()
    expect(await locker.tryAcquire('wanted')).toBe(null)
    // From here on the race is open again.
    await Promise.all([waiting, locker.acquire('wanted')].map(async (granted) => (await granted).release()))
    // Nobody was told: nobody is waited for.
    await (await locker.acquire('wanted')).release()
    await (await locker.acquire('wanted', { waitTimeoutMs: 0 })).release()
  })
})

describe('several keys', () => {
  it('are taken all or none in one statement, and nothing stays behind', async () => {
    const locker = createLocker()
    const other = createLocker()
    const taken = await other.acquire('c')
    expect(await locker.tryAcquireMany?.(['a', 'b', 'c', 'd'])).toBe(null)
    for (const key of ['a', 'b', 'd']) await (await other.acquire(key, { waitTimeoutMs: 0 })).release()
    await taken.release()
    const locks = await locker.tryAcquireMany?.(['d', 'c', 'a'])
    expect(locks?.map((lock) => lock.key)).toEqual(['d', 'c', 'a'])
    await Promise.all((locks ?? []).map((lock) => lock.release()))
  })

  it('may be given up on while the statement is on its way: nobody is kept out by what it brings', async () => {
    const [holder, locker] = [createLocker(), createLocker()]
    await locker.ping()
    for (const taken of [true, false]) {
      const other = taken ? await holder.acquire('left/b') : null
      const controller = new AbortController()
      const given = locker.tryAcquireMany(['left/a', 'left/b', 'left/a'], { signal: controller.signal })
      controller.abort()
      await expect(given).rejects.toBe(controller.signal.reason)
      await other?.release()
      for (const of of [locker, holder]) {
        const locks = await of.tryAcquireMany(['left/a', 'left/b'])
        expect(locks).not.toBe(null)
        await Promise.all((locks ?? []).map((lock) => lock.release()))
      }
    }
  })

  it('acquireMany waits for them without deadlock in whatever order they are named', async () => {
    const [one, two] = [createLocker(), createLocker()]
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        [one, two].map(async (locker, index) => {
          const keys = index === 0 ? ['x', 'y', 'z'] : ['z', 'y', 'x']
          await using set = await acquireMany(locker, keys, { waitTimeoutMs: 5_000 })
          expect(set.isHeld()).toBe(true)
        }),
      )
    }
  })
})

describe('tracing', () => {
  it('says key, mode, outcome, batch and times, and nothing of the connection', async () => {
    const seen: unknown[] = []
    const listener = (message: unknown): void => void seen.push(message)
    const names = ['tracing:coordination:lock.acquire:asyncEnd', 'tracing:coordination:lock.release:asyncEnd']
    for (const name of names) channel(name).subscribe(listener)
    try {
      const locker = createLocker()
      const locks = await Promise.all(['a', 'b', 'c'].map((key) => locker.acquire(key)))
      expect(await createLocker().tryAcquire('a')).toBe(null)
      for (const lock of locks) await lock.release()
      // Several keys are several acquires: each of them has a release.
      const set = await acquireMany(locker, ['d', 'e', 'd'])
      await set.release()
    } finally {
      for (const name of names) channel(name).unsubscribe(listener)
    }
    expect(seen).toHaveLength(11)
    expect(seen.slice(0, 4)).toEqual([
      ...['a', 'b', 'c'].map((key) => expect.objectContaining({ key, outcome: 'acquired', batchSize: 3 })),
      expect.objectContaining({ key: 'a', outcome: 'contended' }),
    ])
    const [acquired, released] = [seen.slice(7, 9), seen.slice(9)]
    for (const key of ['d', 'e']) {
      expect(acquired).toContainEqual(expect.objectContaining({ key, outcome: 'acquired', batchSize: 2, waits: false }))
      expect(released).toContainEqual(expect.objectContaining({ key }))
    }
    expect(JSON.stringify(seen, (_, value) => (typeof value === 'bigint' ? String(value) : value))).not.toContain(
      'postgres',
    )
  })
})

describe('policy', () => {
  it('wraps tries, and never what gives a lock back', async () => {
    let open = true
    let wrapped = 0
    const policy = {
      execute: async <T>(fn: (context: object) => Promise<T>): Promise<T> => {
        wrapped += 1
        if (!open) throw new Error('the circuit is open')
        return fn({})
      },
    }
    const locker = createLocker({ policy })
    const locks = await Promise.all(['a', 'b'].map((key) => locker.acquire(key)))
    expect(wrapped).toBe(1)
    open = false
    const [released, refused] = await Promise.allSettled([locks[0]?.release(), locker.tryAcquire('c')])
    expect(released.status).toBe('fulfilled')
    expect(refused).toMatchObject({ status: 'rejected', reason: { message: 'the circuit is open' } })
    await locks[1]?.release()
    open = true
    await (await createLocker().acquire('c', { waitTimeoutMs: 0 })).release()
  })

  it('may give up on a try or send it twice: what nobody heard of is given back', async () => {
    const other = createLocker()
    let mode: 'give up' | 'twice' | 'plain' = 'plain'
    const policy = {
      execute: async <T>(fn: (context: object) => Promise<T>): Promise<T> => {
        const attempt = fn({})
        if (mode === 'plain') return attempt
        if (mode === 'twice') return attempt.then(() => fn({}))
        mode = 'plain'
        throw new Error('no patience')
      },
    }
    const locker = createLocker({ policy })
    await locker.ping()
    for (const [n, of] of (['give up', 'twice'] as const).entries()) {
      mode = of
      await locker.acquire(`one/${n}`).then((lock) => lock.release())
      mode = of
      const all = await locker.tryAcquireMany?.([`many/${n}/a`, `many/${n}/b`]).catch(() => null)
      for (const lock of all ?? []) await lock.release()
      for (const key of [`one/${n}`, `many/${n}/a`, `many/${n}/b`]) {
        await (await other.acquire(key, { waitTimeoutMs: 5_000 })).release()
      }
    }
  })
})

describe('giving up', () => {
  it('a try whose caller leaves before the answer is there keeps nobody of this process out', async () => {
    const [holder, locker] = [createLocker(), createLocker()]
    const lock = await holder.acquire('left')
    await locker.ping()
    const controller = new AbortController()
    const given = locker.tryAcquire('left', { signal: controller.signal })
    controller.abort()
    await expect(given).rejects.toBe(controller.signal.reason)
    await lock.release()
    await (await locker.acquire('left', { waitTimeoutMs: 5_000 })).release()
  })

  it('while the connection to wait on opens leaves nobody in the queue of the server', async () => {
    const [holder, locker] = [createLocker(), createLocker({ wait: 'server' })]
    const lock = await holder.acquire('opening')
    await locker.ping()
    // Its first try takes a round trip, the connection takes longer.
    await expect(locker.acquire('opening', { waitTimeoutMs: 4 })).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' })
    expect(await locker.tryAcquire('opening')).toBe(null)
    await lock.release()
  })
})
