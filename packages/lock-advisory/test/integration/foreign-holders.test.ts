import { lockId } from '@x/lock-core'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it, vi } from 'vitest'
import { HeldLocks } from '../../src/held-locks.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database, { pollMs: 50, namespace: 7 })

const psql = (applicationName = 'psql') => database.client({ application_name: applicationName })
const id = (key: string): string => String(lockId(7, key))

describe('a session of another program that knows the id', () => {
  it.each(['notify', 'server', 'poll'] as const)('excludes ours and is excluded by ours (%s)', async (wait) => {
    const locker = createLocker({ wait })
    const foreign = await psql('testkit')
    await foreign.query('SELECT pg_advisory_lock($1)', [id('report')])
    expect(await locker.tryAcquire('report')).toBe(null)
    expect(await locker.tryAcquire('report', { mode: 'shared' })).toBe(null)
    const waiter = locker.acquire('report')
    await eventually(async () => (await locker.status('report')).waiters === 1)
    await foreign.query('SELECT pg_advisory_unlock($1)', [id('report')])
    const lock = await waiter
    const { rows } = await foreign.query('SELECT pg_try_advisory_lock($1) AS ok', [id('report')])
    expect(rows).toEqual([{ ok: false }])
    await lock.release()
    await foreign.end()
  })

  it('is shown by status() with its pid, application name and address', async () => {
    const locker = createLocker()
    const foreign = await psql('night shift')
    await foreign.query('SELECT pg_advisory_lock_shared($1)', [id('report')])
    const { rows } = await foreign.query<{ pid: number; address: string; session: string }>(
      `SELECT pid, host(client_addr) || ':' || client_port AS address,
              to_hex(trunc(extract(epoch FROM backend_start))::int8) || '.' || to_hex(pid) AS session
         FROM pg_stat_activity WHERE pid = pg_backend_pid()`,
    )
    expect(await locker.status('report')).toEqual({
      key: 'report',
      isAcquired: true,
      mode: 'shared',
      sessionId: rows[0]?.session,
      acquirerName: 'night shift',
      acquirerAddress: rows[0]?.address,
      acquiredAt: null,
      expiresAt: null,
      fencingToken: null,
      metadata: null,
      waiters: 0,
      holders: [
        {
          mode: 'shared',
          sessionId: rows[0]?.session,
          acquirerName: 'night shift',
          acquirerAddress: rows[0]?.address,
          pid: rows[0]?.pid,
          acquiredAt: null,
          expiresAt: null,
          fencingToken: null,
          metadata: null,
        },
      ],
    })
    await foreign.end()
  })

  it('is not mistaken for another lock that shares a half of the id, or lives in the other space', async () => {
    const locker = createLocker()
    const wanted = lockId(7, 'report')
    const foreign = await psql('testkit')
    await foreign.query('SELECT pg_advisory_lock($1::int8)', [String(BigInt.asIntN(64, wanted + (1n << 32n)))])
    await foreign.query('SELECT pg_advisory_lock($1::int4, $2::int4)', [
      Number(BigInt.asIntN(32, wanted >> 32n)),
      Number(BigInt.asIntN(32, wanted)),
    ])
    expect((await locker.status('report')).isAcquired).toBe(false)
    await (await locker.acquire('report', { waitTimeoutMs: 0 })).release()
    await foreign.end()
  })

  it('is ended by terminateHolder(), and only it', async () => {
    const locker = createLocker()
    expect(await locker.terminateHolder('report')).toBe(false)
    const [foreign, bystander] = [await psql('holder'), await psql('testkit')]
    await foreign.query('SELECT pg_advisory_lock($1)', [id('report')])
    await bystander.query('SELECT pg_advisory_lock($1)', [id('another report')])
    expect(await locker.terminateHolder('report')).toBe(true)
    await (await locker.acquire('report', { waitTimeoutMs: 20_000 })).release()
    expect((await locker.status('another report')).isAcquired).toBe(true)
    await bystander.end()
  })

  it('terminateHolder() of our own lock loses this lock alone', async () => {
    const locker = createLocker()
    const [lock, spared] = [await locker.acquire('report'), await locker.acquire('spared')]
    const lost = new Promise<unknown>((resolve) => {
      lock.signal.addEventListener('abort', () => resolve(lock.signal.reason), { once: true })
    })
    expect(await locker.terminateHolder('report')).toBe(true)
    expect(await lost).toMatchObject({ code: 'LOCK_LOST', reason: 'forced' })
    expect(spared.isHeld()).toBe(true)
    await (await createLocker().acquire('report', { waitTimeoutMs: 20_000 })).release()
    await spared.release()
  })
})

describe('list()', () => {
  it('walks over all that is held once, however many ids there are', async () => {
    const locker = createLocker()
    const held = await Promise.all(Array.from({ length: 100 }, (_, index) => locker.acquire(`key ${index}`)))
    const walks = vi.spyOn(HeldLocks.prototype, Symbol.iterator)
    const listed = await locker.list()
    expect(walks.mock.calls.length).toBeLessThan(5)
    walks.mockRestore()
    expect(new Set(listed.map(({ key }) => key))).toEqual(new Set(held.map(({ key }) => key)))
    expect(listed.every(({ acquiredAt }) => acquiredAt !== null)).toBe(true)
    await Promise.all(held.map((lock) => lock.release()))
  })

  it('shows every lock of the database, with the names under which this locker knows it', async () => {
    const locker = createLocker()
    const foreign = await psql('testkit')
    await foreign.query('SELECT pg_advisory_lock(42)')
    await foreign.query('SELECT pg_advisory_lock($1)', [id('b')])
    const lock = await locker.acquire('a', { metadata: { job: 'night' } })
    const waiting = locker.acquire('b')
    await eventually(async () => (await locker.status('b')).waiters === 1)
    const listed = (await locker.list()).toSorted((left, right) => left.key.localeCompare(right.key))
    expect(listed).toMatchObject([
      { key: '42', lockId: 42n, names: [], acquirerName: 'testkit', waiters: 0 },
      { key: 'a', lockId: lockId(7, 'a'), names: ['a'], metadata: { job: 'night' }, waiters: 0 },
      { key: 'b', lockId: lockId(7, 'b'), names: ['b'], acquirerName: 'testkit', waiters: 1 },
    ])
    await foreign.end()
    await (await waiting).release()
    await lock.release()
  })
})
