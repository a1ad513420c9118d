import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { useLockers } from '../support/lockers.ts'
import { lockAdvisory } from '../support/template.ts'

describe('where the migration was run', () => {
  const database = useDatabase({ template: lockAdvisory })
  const createLocker = useLockers(database)

  it('tokens come from the sequence by default, one for each statement, rising for each key', async () => {
    const locker = createLocker({ fencing: undefined })
    const locks = await Promise.all(['a', 'b', 'c'].map((key) => locker.acquire(key)))
    expect(locker.capabilities.fencing).toBe('durable')
    const [first] = locks
    expect(new Set(locks.map((lock) => lock.fencingToken)).size).toBe(1)
    expect(first?.fencingToken).toBeGreaterThan(2n ** 48n)
    await Promise.all(locks.map((lock) => lock.release()))
    const again = await createLocker({ fencing: undefined }).acquire('a')
    expect(again.fencingToken).toBeGreaterThan(first?.fencingToken ?? 0n)
    await again.release()
  })

  it('shared holders of one key in one statement get a token each', async () => {
    const locker = createLocker({ fencing: 'sequence' })
    await (await locker.acquire('warm')).release()
    const locks = await Promise.all(Array.from({ length: 5 }, () => locker.acquire('key', { mode: 'shared' })))
    const tokens = locks.map((lock) => lock.fencingToken)
    expect(new Set(tokens).size).toBe(5)
    expect(tokens).toEqual(tokens.toSorted())
    await Promise.all(locks.map((lock) => lock.release()))
  })

  it('a try that gets nothing draws nothing', async () => {
    const [holder, other] = [createLocker({ fencing: 'sequence' }), createLocker({ fencing: 'sequence' })]
    const lock = await holder.acquire('key')
    for (let times = 0; times < 20; times += 1) expect(await other.tryAcquire('key')).toBe(null)
    const next = await other.acquire('another')
    expect(next.fencingToken).toBe((lock.fencingToken ?? 0n) + 1n)
    await Promise.all([lock.release(), next.release()])
  })

  it.each(['sequence', 'xid'] as const)(
    'several keys at once, and the server’s queue, draw tokens too (%s)',
    async (fencing) => {
      const [one, other] = [createLocker({ fencing, wait: 'server' }), createLocker({ fencing, wait: 'server' })]
      const locks = (await one.tryAcquireMany?.(['a', 'b'])) ?? []
      const waiting = other.acquire('a')
      const tokens = locks.map((lock) => lock.fencingToken)
      expect(tokens[0]).toBe(tokens[1])
      await Promise.all(locks.map((lock) => lock.release()))
      const next = await waiting
      expect(next.fencingToken).toBeGreaterThan(tokens[0] ?? 0n)
      await next.release()
    },
  )
})

describe('where it was not', () => {
  const database = useDatabase()
  const createLocker = useLockers(database)

  it('there are no tokens by default, and a sequence that was asked for is an error that says what to run', async () => {
    const locker = createLocker({ fencing: undefined })
    const lock = await locker.acquire('key')
    expect(lock.fencingToken).toBe(null)
    expect(locker.capabilities.fencing).toBe('none')
    await lock.release()
    await expect(createLocker({ fencing: 'sequence' }).acquire('key')).rejects.toMatchObject({
      code: 'SCHEMA_MISSING',
      message: expect.stringContaining("import { migrate } from '@x/lock-advisory/migrations'; await migrate(pool)"),
    })
  })
})

describe('where no token can be drawn', () => {
  const database = useDatabase({ template: lockAdvisory })
  const createLocker = useLockers(database)

  it('the lock that the server has granted already is given back, and other locks stay', async () => {
    const [locker, other] = [createLocker({ fencing: 'sequence' }), createLocker()]
    const kept = await locker.acquire('kept')
    await database.pool().query(`SELECT setval('coordination.fencing_tokens', 281474976710655)`)
    await expect(locker.acquire('refused')).rejects.toMatchObject({ code: 'QUERY_FAILED', sqlState: '2200H' })
    await expect(locker.tryAcquireMany?.(['refused/a', 'refused/b'])).rejects.toMatchObject({ sqlState: '2200H' })
    for (const key of ['refused', 'refused/a', 'refused/b']) {
      await (await other.acquire(key, { waitTimeoutMs: 0 })).release()
    }
    expect(kept.isHeld()).toBe(true)
    await kept.release()
  })

  it('a shared lock is given back with its session, because nobody can tell how often that has it', async () => {
    const [locker, other] = [createLocker({ fencing: 'sequence' }), createLocker()]
    await locker.ping()
    await expect(locker.acquire('shared', { mode: 'shared' })).rejects.toMatchObject({ sqlState: '2200H' })
    await (await other.acquire('shared', { waitTimeoutMs: 5_000 })).release()
  })

  it('nobody is counted as a waiter whose announcement was in the statement that failed', async () => {
    const pool = database.pool()
    const exhausted = (is: boolean) =>
      pool.query(`SELECT setval('coordination.fencing_tokens', $1)`, [is ? 281474976710655n : 1n])
    const interest = async () =>
      (await pool.query(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2`)).rowCount
    await exhausted(false)
    const [locker, other] = [createLocker({ fencing: 'sequence' }), createLocker()]
    const kept = await locker.acquire('kept')
    const held = await Promise.all(['held', 'held/2', 'held/3'].map((key) => other.acquire(key)))
    const patient = locker.acquire('held/3')
    await eventually(async () => (await other.status('held/3')).waiters === 1)
    await exhausted(true)
    // Those who were answered together ask together for what they want next: after two tries to announce the one, and another.
    const waiting = locker.acquire('held')
    const trying = locker
      .tryAcquire('held/2')
      .then(() => locker.tryAcquire('held/2'))
      .then(() => locker.tryAcquire('free'))
    for (const failing of [waiting, trying]) await expect(failing).rejects.toMatchObject({ sqlState: '2200H' })
    expect((await other.status('held')).waiters).toBe(0)
    // Who waits already goes on waiting, and is told.
    expect((await other.status('held/3')).waiters).toBe(1)
    await exhausted(false)
    for (const lock of held) await lock.release()
    await (await patient).release()
    await eventually(async () => (await interest()) === 0)
    expect(kept.isHeld()).toBe(true)
    await kept.release()
  })
})
