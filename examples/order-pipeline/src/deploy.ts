import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { migrate as migrateAdvisory } from '@x/lock-advisory/migrations'
import { migrate as migrateTable } from '@x/lock-table/migrations'
import { Pool } from 'pg'

/** What a deployment does before its replicas start: the tables of the four packages, in the schema `coordination`. */
export const deploy = async (url: string): Promise<void> => {
  const pool = new Pool({ connectionString: url, max: 1, application_name: 'order-pipeline/deploy' })
  // end() does not wait until the server has heard of it: a database that is dropped right away still ends the connection.
  pool.on('error', () => {})
  try {
    for (const migrate of [migrateTable, migrateAdvisory, migrateCluster, migrateInput]) await migrate(pool)
  } finally {
    await pool.end()
  }
}
