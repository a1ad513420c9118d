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
