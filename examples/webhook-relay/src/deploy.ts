import { readFile } from 'node:fs/promises'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { createTableLocker } from '@x/lock-table'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import type { Pool } from 'pg'
import { createWebhookInput } from './webhook-input.ts'

/**
 * The tables of the shop and those of the packages, and the capture of sales: what is sold from then on is relayed.
 * Idempotent; each replica calls it when it starts.
 */
export const deploy = async (pool: Pool): Promise<void> => {
  await migrateLocks(pool)
  await migrateInput(pool)
  // One replica after the other: two CREATE TABLE IF NOT EXISTS at once may both find nothing, and one of them fails.
  const schema = await readFile(new URL('./schema.sql', import.meta.url), 'utf8')
  await pool.query(`BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('webhook-relay', 0)); ${schema}; COMMIT`)
  await using locker = createTableLocker({ pool, wakeUps: 'poll' })
  await using input = createWebhookInput({ pool, locker })
  await input.install()
}
