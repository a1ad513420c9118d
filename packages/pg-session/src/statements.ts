import type { Statement } from './statement.ts'

/**
 * Who is at the other end, and the settings of the connection, in one round trip. A setting that the server does not have is
 * passed over: `current_setting(…, true)` is null for it. Nothing is set unless the backend is the expected one (null for
 * any): behind a transaction pooler the settings would be others' from the next transaction on. Without a name for the same
 * reason: a prepared statement would stay there.
 */
export const introduce: Statement = {
  name: '',
  text: `
    SELECT pg_backend_pid(), pg_is_in_recovery(),
           (SELECT count(set_config(s.name, s.value, false))
              FROM unnest($1::text[], $2::text[]) AS s (name, value)
             WHERE ($3::int IS NULL OR pg_backend_pid() = $3) AND current_setting(s.name, true) IS NOT NULL)`,
}

/** The same without the settings, for a server that refuses one of them. */
export const introduceOnly: Statement = {
  name: '',
  text: 'SELECT pg_backend_pid(), pg_is_in_recovery()',
}

/** One setting for the session. */
export const setOne: Statement = { name: '', text: 'SELECT set_config($1, $2, false)' }

/** Proves that the session lives. */
export const heartbeat: Statement = { name: 'heartbeat', text: 'SELECT 1' }

/** What the connection listens to, as the server knows it; the heartbeat of a listener. */
export const listeningChannels: Statement = {
  name: 'listening_channels',
  text: 'SELECT pg_listening_channels()',
}

/** Sends a notification. */
export const notify: Statement = { name: 'notify', text: 'SELECT pg_notify($1, $2)' }

/** True on a standby. */
export const inRecovery: Statement = { name: 'in_recovery', text: 'SELECT pg_is_in_recovery()' }

/** True where plpgsql is there. */
export const plpgsql: Statement = {
  name: 'plpgsql',
  text: `SELECT EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')`,
}

/** The timeline, in hexadecimal; an error where the server does not tell it. */
export const timeline: Statement = {
  name: 'timeline',
  text: 'SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)',
}

/**
 * True if a session lock that was taken can be seen among the locks of the session. The keys are the backend's pid under a
 * class of our own, so that two probes never meet; the lock is given back in the same statement.
 */
export const advisoryProbe: Statement = {
  name: 'advisory_probe',
  text: `
    WITH taken AS MATERIALIZED (
      SELECT pg_try_advisory_lock(1668246899, pg_backend_pid()) AS ok
    ), seen AS MATERIALIZED (
      SELECT t.ok AND EXISTS (
               SELECT FROM pg_locks AS l
                WHERE l.locktype = 'advisory' AND l.classid = 1668246899 AND l.objsubid = 2
                  AND l.pid = pg_backend_pid() AND l.granted) AS ok
        FROM taken AS t
    )
    SELECT s.ok AND pg_advisory_unlock(1668246899, pg_backend_pid()) FROM seen AS s`,
}
