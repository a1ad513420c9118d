import { withDatabase } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

const database = useDatabase()

it('a key that the encoding of the database lacks fails for its own caller, and not for those who share the statement', async () => {
  const admin = database.pool({ max: 1 })
  const name = `${database.name}_latin1`
  await admin.query(`CREATE DATABASE "${name}" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
  const pool = new Pool({ connectionString: withDatabase(database.url, name), max: 4 })
  try {
    await migrate(pool)
    await using locker = createTableLocker({ pool, wakeUps: 'poll' })
    await (await locker.acquire('warm')).release()
    const keys = ['straße', 'lock/✓', 'plain']
    for (const mode of ['exclusive', 'shared'] as const) {
      const results = await Promise.allSettled(keys.map((key) => locker.acquire(key, { mode })))
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
      expect(results[1]).toMatchObject({ reason: { code: 'QUERY_FAILED', sqlState: '22P05' } })
      for (const result of results) if (result.status === 'fulfilled') await result.value.release()
    }
  } finally {
    await pool.end()
    // The pool says goodbye and does not wait until the server has heard it; by force its clients would hear of it.
    await expect
      .poll(async () => (await admin.query('SELECT FROM pg_stat_activity WHERE datname = $1', [name])).rows)
      .toEqual([])
    await admin.query(`DROP DATABASE "${name}"`)
  }
})
