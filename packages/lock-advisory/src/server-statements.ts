import type { Statement } from '@x/pg-session'
import { rowsOf } from './statements.ts'

/** Statements about the server and the sessions on it. They run on a session of ours, and take nothing that lasts. */

/** A session as the server's log names it: `%c` of log_line_prefix. */
const sessionIdOf = (activity: string): string =>
  `to_hex(trunc(extract(epoch FROM ${activity}.backend_start))::int8) || '.' || to_hex(${activity}.pid)`

/**
 * What the locker must know of a server before it trusts a lock there: whether a lock that was granted exists (servers
 * that only speak the protocol grant everything and keep nothing), and how many locks its shared memory holds.
 */
export const greet: Statement = {
  name: 'advisory_greet',
  text: `
  WITH probe AS MATERIALIZED (SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1::int8) AS ok)
  SELECT probe.ok AND EXISTS (
           SELECT FROM pg_locks AS l WHERE ${rowsOf('$1::int8')} AND l.objsubid = 1 AND l.pid = pg_backend_pid()
              AND probe.ok
         ),
         current_setting('max_locks_per_transaction')::int8
           * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
         (SELECT ${sessionIdOf('a')} FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid())
    FROM probe`,
}

/** Who holds, waits for or announced interest in one id, whoever they are. */
export const inspectId: Statement = {
  name: 'advisory_inspect_id',
  text: `
  SELECT $1::int8::text, l.objsubid, l.granted, l.mode, l.pid, a.application_name, host(a.client_addr), a.client_port,
         ${sessionIdOf('a')}
    FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
   WHERE ${rowsOf('$1::int8')}
   ORDER BY l.granted DESC, l.pid`,
}

/** The same for every id of the database. */
export const inspectAll: Statement = {
  name: 'advisory_inspect_all',
  text: `
  SELECT ((l.classid::int8 << 32) | l.objid::int8)::text, l.objsubid, l.granted, l.mode, l.pid,
         a.application_name, host(a.client_addr), a.client_port,
         ${sessionIdOf('a')}
    FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
   WHERE l.locktype = 'advisory'
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   ORDER BY l.granted DESC, l.pid`,
}

/** Tells the sessions, but for those in $2, that hold the id to end, and with them all they hold; gives who they were. */
export const terminateHolders: Statement = {
  name: 'advisory_terminate_holders',
  text: `
  WITH holder AS MATERIALIZED (
    SELECT DISTINCT l.pid FROM pg_locks AS l
     WHERE ${rowsOf('$1::int8')} AND l.objsubid = 1 AND l.granted AND l.pid <> ALL ($2::int4[])
  )
  SELECT pid, pg_terminate_backend(pid) FROM holder`,
}

/** Makes a blocked statement of a waiter fail. The lock may be granted all the same: unlock when it has answered. */
export const cancelBackend: Statement = {
  name: 'advisory_cancel',
  text: `SELECT pg_cancel_backend($1::int4)`,
}

/** Which of these backends are there, and whether they wait for a statement; null where the server does not say. */
export const livingBackends: Statement = {
  name: 'advisory_living',
  text: `SELECT a.pid, a.state = 'idle' FROM pg_stat_activity AS a WHERE a.pid = ANY ($1::int4[])`,
}

/** Any answer proves that the session lives. */
export const ping: Statement = { name: 'advisory_ping', text: 'SELECT 1' }
