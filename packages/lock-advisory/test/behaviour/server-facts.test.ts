import { lockId } from '@x/lock-core'
import { eventually, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inspectId } from '../../src/server-statements.ts'

const database = useDatabase()
let one: Client
let other: Client
beforeEach(async () => {
  one = await database.client()
  other = await database.client()
})
afterEach(() => Promise.allSettled([one.end(), other.end()]))

const ask = async (client: Client, expression: string, values: unknown[] = []): Promise<unknown> =>
  (await client.query<unknown[]>({ text: `SELECT ${expression}`, values, rowMode: 'array' })).rows[0]?.[0]

describe('what the locker relies on', () => {
  it('a session may take its own lock again, which is why the guard exists; each unlock takes one back', async () => {
    expect(await ask(one, 'pg_try_advisory_lock(1)')).toBe(true)
    expect(await ask(one, 'pg_try_advisory_lock(1)')).toBe(true)
    await ask(one, 'pg_advisory_unlock(1)')
    expect(await ask(other, 'pg_try_advisory_lock(1)')).toBe(false)
    await ask(one, 'pg_advisory_unlock(1)')
    expect(await ask(other, 'pg_try_advisory_lock(1)')).toBe(true)
  })

  it('unlocking what is not held says false', async () => {
    expect(await ask(one, 'pg_advisory_unlock(2)')).toBe(false)
  })

  it('an unlock in a transaction takes effect at once, and is not undone by ROLLBACK', async () => {
    await ask(one, 'pg_advisory_lock(3)')
    await one.query('BEGIN')
    await ask(one, 'pg_advisory_unlock(3)')
    expect(await ask(other, 'pg_try_advisory_lock(3)')).toBe(true)
    await one.query('ROLLBACK')
    expect(await ask(one, 'pg_try_advisory_lock(3)')).toBe(false)
  })

  it('the (int4, int4) space is disjoint from the bigint space, and its halves are the halves of an id', async () => {
    for (const key of ['a', 'b', 'night job', 'ключ']) {
      const id = String(lockId(-5, key))
      await ask(one, 'pg_advisory_lock($1::int8)', [id])
      expect(
        await ask(other, 'pg_try_advisory_lock_shared(($1::int8 >> 32)::int4, $1::int8::bit(32)::int4)', [id]),
      ).toBe(true)
      const { rows } = await one.query({ ...inspectId, name: '', values: [id], rowMode: 'array' })
      expect(rows.map((row: unknown[]) => [row[0], row[1], row[2], row[3]])).toEqual(
        expect.arrayContaining([
          [id, 1, true, 'ExclusiveLock'],
          [id, 2, true, 'ShareLock'],
        ]),
      )
      expect(rows).toHaveLength(2)
    }
  })

  it('a try does not overtake those who are blocked in the queue', async () => {
    const third = await database.client()
    await ask(one, 'pg_advisory_lock_shared(4)')
    const blocked = ask(other, 'pg_advisory_lock(4)')
    await eventually(
      async () =>
        (await ask(
          third,
          `count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`,
        )) === '1',
    )
    expect(await ask(third, 'pg_try_advisory_lock_shared(4)')).toBe(false)
    await ask(one, 'pg_advisory_unlock_shared(4)')
    await blocked
    await third.end()
  })

  it('a lock belongs to its database', async () => {
    const elsewhere = await database.another()
    const client = await elsewhere.client()
    await ask(one, 'pg_advisory_lock(5)')
    expect(await ask(client, 'pg_try_advisory_lock(5)')).toBe(true)
    const { rows } = await client.query({ ...inspectId, name: '', values: ['5'], rowMode: 'array' })
    expect(rows).toHaveLength(1)
    await client.end()
  })

  it('a terminated session gives back its locks', async () => {
    const doomed = await database.client({ application_name: 'doomed' })
    await ask(doomed, 'pg_advisory_lock(6)')
    expect(await terminateBackend(database.pool(), { applicationName: 'doomed' })).toHaveLength(1)
    await eventually(async () => (await ask(one, 'pg_try_advisory_lock(6)')) === true)
  })

  it('a waiter in the queue holds a snapshot: what `server` costs', async () => {
    await ask(one, 'pg_advisory_lock(7)')
    const waiting = await database.client({ application_name: 'waiting' })
    const blocked = ask(waiting, 'pg_advisory_lock(7)')
    await eventually(
      async () =>
        (await ask(
          one,
          `count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'waiting' AND backend_xmin IS NOT NULL`,
        )) === '1',
    )
    await ask(one, 'pg_advisory_unlock(7)')
    await blocked
    await waiting.end()
  })
})
