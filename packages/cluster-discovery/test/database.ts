import type { DatabaseTemplate } from '@x/testkit/vitest'
import { migrate } from '../src/migrations.ts'

/** A database with the cluster's tables. */
export const clusterTables: DatabaseTemplate = {
  name: 'cluster',
  prepare: async (pool) => {
    await migrate(pool)
  },
}
