import type { Pool } from 'pg'
import { testkitName } from './admin.ts'

interface Leak {
  readonly pid: number | null
  readonly what: string
}

/** Everything in one database that a test must not leave behind, one row each. */
const findLeaks = `
  WITH db AS (SELECT oid, datname FROM pg_database WHERE datname = $1)
  SELECT l.pid, format('advisory lock (%s, %s, %s) %s of %L', l.classid, l.objid, l.objsubid, l.mode,
                       coalesce(a.application_name, '')) AS what
    FROM pg_locks l JOIN db ON l.database = db.oid LEFT JOIN pg_stat_activity a ON a.pid = l.pid
   WHERE l.locktype = 'advisory'
  UNION ALL
  SELECT a.pid, CASE WHEN a.application_name <> $2 THEN format('connection of %L', a.application_name)
                     WHEN a.query ~* '^\\s*listen' THEN 'listener'
                     ELSE 'open transaction' END
                || format(' (%s), last statement: %s', coalesce(a.state, '?'), left(a.query, 120))
    FROM pg_stat_activity a JOIN db ON a.datid = db.oid
   WHERE a.backend_type = 'client backend'
     AND (a.application_name <> $2 OR a.query ~* '^\\s*listen' OR a.state LIKE 'idle in transaction%')
  UNION ALL
  SELECT NULL, format('prepared transaction %L', gid) FROM pg_prepared_xacts JOIN db ON database = db.datname`

/** Advisory locks, connections that are not the testkit's, listeners, open and prepared transactions. */
export const databaseLeaks = async (admin: Pool, database: string): Promise<readonly Leak[]> =>
  (await admin.query<Leak>(findLeaks, [database, testkitName])).rows

/** Ends the backends of a failed test's leaks, so that the next test is not blamed for them. */
export const endLeakedBackends = async (admin: Pool, leaks: readonly Leak[]): Promise<void> => {
  for (const { pid } of leaks) {
    if (pid !== null) await admin.query('SELECT pg_terminate_backend($1, 2000)', [pid])
  }
}
