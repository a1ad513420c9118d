import { eventually, withDatabase } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

const database = useDatabase({ leakCheck: 'file' })
const count = 300

/** Bytes, letters of both cases, what arrays and JSON write in quotes: no two orders sort them alike. */
const keys = Array.from(
  { length: count },
  (_, index) => `${['a', 'B', '"', '\\', ',', 'é', '', '~'][index % 8]}${index}`,
)

describe.each(['bytes', 'a dictionary'])('where text has the order of %s', (order) => {
  const options = order === 'bytes' ? `LOCALE 'C'` : `LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en'`
  const name = (): string => `${database.name}_${order.replaceAll(' ', '_')}`
  let pool: Pool
  beforeAll(async () => {
    await database.pool({ max: 1 }).query(`CREATE DATABASE "${name()}" TEMPLATE template0 ${options}`)
    pool = new Pool({ connectionString: withDatabase(database.url, name()), max: 6 })
    await migrate(pool)
  })
  afterAll(async () => {
    await pool.end()
    const admin = database.pool({ max: 1 })
    // The clients say goodbye and do not wait until the server has heard it; by force they would hear of it.
    await eventually(
      async () => (await admin.query('SELECT FROM pg_stat_activity WHERE datname = $1', [name()])).rows.length === 0,
      { what: 'the server to hear of the end of its clients' },
    )
    await admin.query(`DROP DATABASE "${name()}"`)
  })

  it.each([
    { what: 'alike', metadata: () => undefined, ttlMs: () => 30_000 },
    {
      what: 'with metadata of their own',
      metadata: (index: number) => ({ index: String(index) }),
      ttlMs: () => 30_000,
    },
    {
      what: 'with leases of their own',
      metadata: () => undefined,
      ttlMs: (index: number) => (index % 2 === 0 ? 10_000 : 30_000),
    },
  ])('each of many callers has the token and the lease of its own key ($what)', async ({ metadata, ttlMs }) => {
    await using locker = createTableLocker({ pool, wakeUps: 'poll' })
    await using other = createTableLocker({ pool, wakeUps: 'poll' })
    // A locker that knows its ground asks for many free keys in the short way.
    await (await locker.acquire('warm')).release()
    // Some rows are there and free, some are held, the rest is missing.
    await Promise.all(keys.slice(0, 100).map(async (key) => (await other.acquire(key)).release()))
    const taken = new Set(keys.filter((_, index) => index % 7 === 3))
    const theirs = await Promise.all([...taken].map((key) => other.acquire(key)))
    for (let time = 0; time < 2; time += 1) {
      const locks = await Promise.all(
        keys.map((key, index) => locker.tryAcquire(key, { metadata: metadata(index), ttlMs: ttlMs(index) })),
      )
      expect(locks.map((lock) => lock === null)).toEqual(keys.map((key) => taken.has(key)))
      const { rows } = await pool.query(
        `SELECT key, fencing_token::text AS token, session_id AS owner, metadata,
           (round(extract(epoch FROM expires_at AT TIME ZONE 'UTC' - acquired_at) / 10) * 10000)::int AS ttl FROM coordination.locks WHERE is_acquired`,
      )
      const row = new Map(rows.map(({ key, ...rest }) => [key, rest]))
      for (const [index, lock] of locks.entries()) {
        if (lock === null) continue
        expect(row.get(lock.key)).toEqual({
          token: String(lock.fencingToken),
          owner: lock.sessionId,
          metadata: metadata(index) ?? null,
          ttl: lock.ttlMs,
        })
      }
      expect(new Set(rows.map(({ token }) => token)).size).toBe(count)
      await Promise.all(locks.map((lock) => lock?.release()))
    }
    await Promise.all(theirs.map((lock) => lock.release()))
    const { rows } = await pool.query('SELECT key FROM coordination.locks WHERE is_acquired')
    expect(rows).toEqual([])
  })
})
