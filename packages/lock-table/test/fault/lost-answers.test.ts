import { type TcpProxy, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTableLocker, type TableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
let proxy: TcpProxy
beforeAll(async () => {
  proxy = await tcpProxy(database.url)
})
afterAll(() => proxy.close())

const lockers = async (work: (faulty: TableLocker, sound: TableLocker) => Promise<void>): Promise<void> => {
  await using faulty = createTableLocker({ connectionString: proxy.url(database.url), wakeUps: 'poll', pollMs: 50 })
  await using sound = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 })
  // Connected, and every statement prepared.
  await (await faulty.acquire('warm')).release()
  await work(faulty, sound)
}

it.each(['cut', 'hang'] as const)('a grant whose answer is lost (%s) is granted, once', (after) =>
  lockers(async (faulty, sound) => {
    const key = `grant/${after}`
    const swallowed = proxy.swallowNextReply({ matching: 'lock_grant', after })
    const lock = await faulty.tryAcquire(key)
    await swallowed
    expect(lock?.isHeld()).toBe(true)
    expect(await sound.status(key)).toMatchObject({ sessionId: lock?.sessionId, fencingToken: lock?.fencingToken })
    expect(await sound.tryAcquire(key)).toBeNull()
    await lock?.release()
    await (await sound.acquire(key)).release()
  }),
)

it('grants that share a lost answer are granted, once, and given back when that answer is lost too', () =>
  lockers(async (faulty, sound) => {
    const keys = Array.from({ length: 20 }, (_, index) => `together/${index}`)
    let swallowed = proxy.swallowNextReply({ matching: 'lock_grant_alike' })
    const locks = await Promise.all(keys.map((key) => faulty.acquire(key)))
    await swallowed
    for (const [index, lock] of locks.entries()) {
      expect(lock.isHeld()).toBe(true)
      const { sessionId, fencingToken } = lock
      expect(await sound.status(keys[index] ?? '')).toMatchObject({ sessionId, fencingToken })
    }
    expect(new Set(locks.map((lock) => lock.fencingToken)).size).toBe(keys.length)
    swallowed = proxy.swallowNextReply({ matching: 'lock_release_many' })
    await Promise.all(locks.map((lock) => lock.release()))
    await swallowed
    expect(await sound.list({ prefix: 'together/', isAcquired: true })).toEqual([])
  }))

it('a shared grant whose answer is lost is granted, once', () =>
  lockers(async (faulty, sound) => {
    const swallowed = proxy.swallowNextReply({ matching: 'lock_grant_shared' })
    const lock = await faulty.tryAcquire('shared', { mode: 'shared' })
    await swallowed
    const { holders } = await sound.status('shared')
    expect(holders).toMatchObject([{ sessionId: lock?.sessionId, fencingToken: lock?.fencingToken }])
    await lock?.release()
    await (await sound.acquire('shared')).release()
  }))

it.each(['exclusive', 'shared'] as const)('all of several keys whose answer is lost are granted, once (%s)', (mode) =>
  lockers(async (faulty, sound) => {
    const keys = ['a', 'b', 'c'].map((key) => `all/${mode}/${key}`)
    // The statement has no name; this is how it undoes itself.
    const swallowed = proxy.swallowNextReply({ matching: '1 / (SELECT' })
    const locks = (await faulty.tryAcquireMany?.(keys, { mode })) ?? []
    await swallowed
    expect(locks.map(({ key }) => key)).toEqual(keys)
    for (const { key, sessionId, fencingToken } of locks) {
      expect((await sound.status(key)).holders).toMatchObject([{ sessionId, fencingToken }])
    }
    for (const lock of locks) await lock.release()
    for (const key of keys) await (await sound.acquire(key)).release()
  }),
)

it('a locker that is closed before it knows whether it was granted a key gives it back', () =>
  lockers(async (faulty, sound) => {
    const swallowed = proxy.swallowNextReply({ matching: 'lock_grant_one', after: 'hang' })
    const failed = expect(faulty.tryAcquire('closed')).rejects.toMatchObject({ code: 'CLOSED' })
    await swallowed
    expect((await sound.status('closed')).isAcquired).toBe(true)
    await faulty.close()
    await failed
    expect((await sound.status('closed')).isAcquired).toBe(false)
  }))

it.each(['cut', 'hang'] as const)('a try whose look at a held key gets no answer (%s) asks again', (after) =>
  lockers(async (faulty, sound) => {
    const key = `look/${after}`
    await using _ = await sound.acquire(key)
    expect(await faulty.tryAcquire(key)).toBeNull()
    const swallowed = proxy.swallowNextReply({ matching: 'lock_peek_one', after })
    expect(await faulty.tryAcquire(key)).toBeNull()
    await swallowed
  }),
)

it('a locker that is closed before a look is answered says so to the one who tried, and leaves nothing behind', () =>
  lockers(async (faulty, sound) => {
    await using held = await sound.acquire('look/closed')
    expect(await faulty.tryAcquire('look/closed')).toBeNull()
    const swallowed = proxy.swallowNextReply({ matching: 'lock_peek_one', after: 'hang' })
    const failed = expect(faulty.tryAcquire('look/closed')).rejects.toMatchObject({ code: 'CLOSED' })
    await swallowed
    await faulty.close()
    await failed
    expect(await sound.status('look/closed')).toMatchObject({ sessionId: held.sessionId, waiters: 0 })
  }))

it('a grant that was lost for good ends with its lease', () =>
  lockers(async (faulty, sound) => {
    const swallowed = proxy.swallowNextReply({ matching: 'lock_grant' })
    const failed = faulty.tryAcquire('lost', { ttlMs: 300 })
    void swallowed.then(() => proxy.refuse())
    await expect(failed).rejects.toMatchObject({ code: 'CONNECTION' })
    const next = await sound.acquire('lost', { waitTimeoutMs: 5_000 })
    proxy.heal()
    await next.release()
  }))

it('a renewal whose answer is lost is sent again before the lease is given up', () =>
  lockers(async (faulty, sound) => {
    // All three may be of one renewal: time enough to connect three times on a busy machine before the lease is over.
    const lock = await faulty.acquire('renewed', { ttlMs: 4_500 })
    const lost = new Promise<never>((_, reject) => {
      lock.signal.addEventListener('abort', () => reject(lock.signal.reason))
    })
    lost.catch(() => {})
    for (let time = 0; time < 3; time += 1) {
      await Promise.race([proxy.swallowNextReply({ matching: 'lock_renew' }), lost])
    }
    expect(lock.isHeld()).toBe(true)
    expect(await sound.tryAcquire('renewed')).toBeNull()
    await lock.release()
  }))

it('a lease is lost at its local deadline when no renewal gets through, before it is granted again', () =>
  lockers(async (faulty, sound) => {
    const lock = await faulty.acquire('silent', { ttlMs: 600 })
    let heldWhenGranted: boolean | null = null
    const next = sound.acquire('silent').then((granted) => {
      heldWhenGranted = lock.isHeld()
      return granted
    })
    proxy.blackHole()
    await (await next).release()
    proxy.heal()
    expect(heldWhenGranted).toBe(false)
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'deadline' })
  }))

it('a release whose answer is lost has released', () =>
  lockers(async (faulty, sound) => {
    const lock = await faulty.acquire('released')
    const swallowed = proxy.swallowNextReply({ matching: 'lock_release' })
    await lock.release()
    await swallowed
    const next = await sound.tryAcquire('released')
    expect(next?.fencingToken).toBeGreaterThan(lock.fencingToken ?? 0n)
    await next?.release()
  }))

it('a hand-off whose answer is lost has handed off', () =>
  lockers(async (faulty, sound) => {
    const lock = await faulty.acquire('handed')
    const waiting = sound.acquire('handed')
    await expect.poll(async () => (await sound.status('handed')).waiters).toBe(1)
    const swallowed = proxy.swallowNextReply({ matching: 'lock_hand_off' })
    await lock.release()
    await swallowed
    const next = await waiting
    expect(next.isHeld()).toBe(true)
    await next.release()
  }))
