import type { Pool } from 'pg'

/** A backend by its pid, or every other backend of this database whose application_name is LIKE the pattern. */
export type BackendChoice = number | { readonly applicationName: string }

const signal = async (
  admin: Pool,
  func: 'pg_terminate_backend' | 'pg_cancel_backend',
  choice: BackendChoice,
): Promise<readonly number[]> => {
  const byPid = typeof choice === 'number'
  const { rows } = await admin.query<{ pid: number }>(
    // Chosen first: in one WHERE the planner may ask the function before it looks at the other conditions, and so end
    // every backend of the server.
    `WITH chosen AS MATERIALIZED (
       SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND ${byPid ? 'pid = $1' : 'application_name LIKE $1'})
     SELECT pid FROM chosen WHERE ${func}(pid)`,
    [byPid ? choice : choice.applicationName],
  )
  return rows.map((row) => row.pid)
}

/** Ends sessions as an administrator or a failover does; resolves to the pids that were signalled. */
export const terminateBackend = (admin: Pool, choice: BackendChoice): Promise<readonly number[]> =>
  signal(admin, 'pg_terminate_backend', choice)

/** Cancels the statements that these sessions run now; resolves to the pids that were signalled. */
export const cancelBackend = (admin: Pool, choice: BackendChoice): Promise<readonly number[]> =>
  signal(admin, 'pg_cancel_backend', choice)

/** Backends of this database by application_name (LIKE). */
export const backendsNamed = async (admin: Pool, applicationName: string): Promise<readonly number[]> => {
  const { rows } = await admin.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1
     ORDER BY backend_start, pid`,
    [applicationName],
  )
  return rows.map((row) => row.pid)
}
