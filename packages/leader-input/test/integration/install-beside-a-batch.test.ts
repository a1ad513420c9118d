import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('does not wait for the batch of a leader, which may stand still: a replica that starts is the one to take over', async () => {
  const pool = database.pool()
  await using first = shopInput(pool)
  await first.install()
  const leader = await database.client()
  await leader.query(`BEGIN; UPDATE coordination.cursors SET epoch = epoch + 1 WHERE name = 'test'`)
  await using second = shopInput(database.pool({ options: '-c statement_timeout=15s' }))
  expect((await second.install()).unchanged).toContain('cursor test')
  await leader.query('ROLLBACK')
  await leader.end()
})

it('begins again when its session is ended while it waits for a table, as by a leader that takes over', async () => {
  const pool = database.pool()
  const writer = await database.client()
  await writer.query("BEGIN; INSERT INTO notes VALUES ('open')")
  const own = database.pool({ application_name: 'installer' }).on('error', () => {})
  const input = shopInput(own, { name: 'interrupted', tables: ['notes'], backfill: true })
  const installing = input.install()
  await eventually(async () => {
    const { rowCount } = await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'installer' AND wait_event_type = 'Lock' AND query LIKE 'CREATE OR REPLACE TRIGGER%'`,
    )
    return rowCount === 1
  })
  await writer.query('COMMIT')
  await writer.end()
  expect((await installing).created).toContain('input interrupted on public.notes')
  await own.end()
})
