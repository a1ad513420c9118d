import { readFileSync } from 'node:fs'
import type { DatabaseTemplate } from '@x/testkit/vitest'

/** A database with the cluster's tables. */
export const clusterTables: DatabaseTemplate = {
  name: 'cluster',
  prepare: async (pool) => {
    const sql = readFileSync(new URL('../../../migrations/0003_cluster_discovery.up.sql', import.meta.url), 'utf8')
    await pool.query(sql.replaceAll(/^\\.*$/gm, '').replaceAll(':"schema"', 'coordination'))
  },
}
