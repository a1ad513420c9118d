/** Server settings by name, as in postgresql.conf. */
export type ServerSettings = Readonly<Record<string, string | number | boolean>>

/** What every server of ours has; loopback only, no socket files, room for many sessions. */
export const baseSettings: ServerSettings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: 300,
  shared_preload_libraries: 'pg_stat_statements',
  // Of all databases of a run, those that were dropped too: beyond it the server forgets what it has counted.
  'pg_stat_statements.max': 50_000,
  lc_messages: 'C',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%d %a ',
  // A standby that has to retry waits five seconds by default.
  wal_retrieve_retry_interval: '200ms',
}

/** For tests: commits cost no flush. A crash of the server loses nothing; only a crash of the machine would. */
export const fastSettings: ServerSettings = { fsync: false, full_page_writes: false }

export const settingArguments = (settings: ServerSettings): string[] =>
  Object.entries(settings).flatMap(([name, value]) => [
    '-c',
    `${name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : value}`,
  ])
