import type { DatabaseTemplate } from '@x/testkit'
import { migrate } from '../../src/migrations.ts'

/** A database with our migration in it. */
export const lockTable: DatabaseTemplate = {
  name: 'lock_table',
  prepare: async (pool) => {
    await migrate(pool)
  },
}
