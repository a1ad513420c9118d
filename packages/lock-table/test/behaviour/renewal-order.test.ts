import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

it('a renewal locks rows in the order of the keys, as every statement does, and not in the order of the grants', async () => {
  // A table that is not read as a whole: rows are found in the order in which they are asked for.
  await database
    .pool()
    .query(`INSERT INTO coordination.locks (key) SELECT 'other/' || n FROM generate_series(1, 5000) n`)
  await database.pool().query('ANALYZE coordination.locks')
  await using locker = createTableLocker({ connectionString: database.url })
  const options = { ttlMs: 2_000 }
  await using last = await locker.acquire('order/b', options)
  await using first = await locker.acquire('order/a', options)
  const [other, watcher] = [await database.client(), await database.client()]
  await other.query('BEGIN')
  await other.query(`SELECT FROM coordination.locks WHERE key = 'order/a' FOR UPDATE`)
  const waiting = `
    SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`
  await eventually(async () => (await watcher.query(waiting)).rows.length > 0, {
    what: 'the renewal to wait for the row',
  })
  await other.query(`SELECT FROM coordination.locks WHERE key = 'order/b' FOR UPDATE NOWAIT`)
  await other.query('ROLLBACK')
  expect([first.isHeld(), last.isHeld()]).toEqual([true, true])
})
