import type { DirectConnection, PgPool } from '@x/lock-core'
import { UnsupportedError } from '@x/lock-core'
import type { ClientConfig } from 'pg'

/** Where a connection of our own comes from; at most one of the three is given. */
export interface ConnectionOptions {
  connection?: DirectConnection | undefined
  connectionString?: string | undefined
  /** Only its settings are read; its clients are not taken. */
  pool?: PgPool | undefined
}

/** Gives a fresh configuration for each attempt to connect, so that short-lived passwords and moved hosts are picked up. */
export interface ConnectionSource {
  /** `host:port/database` for messages; never a user's secret. */
  readonly description: string
  settings(): Promise<ClientConfig>
}

/**
 * @param what the function the caller called, for messages
 * @throws {ConfigurationError} unless exactly one is given
 */
export function connectionSource(_options: ConnectionOptions, _what: string): ConnectionSource {
  throw new UnsupportedError('not yet')
}
