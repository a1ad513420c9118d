import { eventually } from '@x/testkit'
import type { Pool } from 'pg'

const connectionsAndLocks = `
  SELECT format('advisory lock %s %s of backend %s', classid, objid, pid) AS what
    FROM pg_locks WHERE locktype = 'advisory'
  UNION ALL
  SELECT format('connection %L: %s', application_name, left(query, 80)) FROM pg_stat_activity
   WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'testkit'
  UNION ALL
  SELECT format('prepared transaction %s', gid) FROM pg_prepared_xacts`

/**
 * What the database still has after every process closed or was killed. Sessions of killed processes end when the server
 * notices, leases when their ttl is over: so it is looked at for a while.
 *
 * @param more a query for what is special to the scenario; its one column is `what`
 */
export const leftBehind = async (admin: Pool, more: string): Promise<readonly string[]> => {
  let left: string[] = []
  await eventually(
    async () => {
      const { rows } = await admin.query<{ what: string }>(`${connectionsAndLocks} UNION ALL ${more}`)
      left = rows.map(({ what }) => what)
      return left.length === 0
    },
    { deadlineMs: 15_000, everyMs: 100 },
  ).catch(() => {})
  return left.map((what) => `left behind: ${what}`)
}
