import { ConfigurationError, ConnectionError, type DirectConnection, type PgPool } from '@x/lock-core'
import { describeValue } from '@x/lock-core/adapter'
import type { ClientConfig } from 'pg'
import pg from 'pg'
import { checkPool } from './check-pool.ts'
import { untilAborted } from './client.ts'
import { fromConnectError } from './sqlstate.ts'

/** Where a connection of our own comes from; exactly one of the three is given. */
export interface ConnectionOptions {
  connection?: DirectConnection | undefined
  connectionString?: string | undefined
  /** Only its settings are read; its clients are not taken. */
  pool?: PgPool | undefined
}

const sources: Record<keyof ConnectionOptions, true> = { connectionString: true, connection: true, pool: true }

/** Gives a fresh configuration for each attempt to connect, so that short-lived passwords and moved hosts are picked up. */
export interface ConnectionSource {
  settings(): Promise<ClientConfig>
}

/**
 * @param what the function that the caller called, for messages
 * @throws {ConfigurationError} unless exactly one of the three is given
 * @example
 * const source = connectionSource({ connectionString: 'postgres://db/app' }, 'createAdvisoryLocker')
 */
export function connectionSource(options: ConnectionOptions, what: string): ConnectionSource {
  const { connection, connectionString, pool } = options
  const given = [connection, connectionString, pool].filter((value) => value !== undefined)
  if (given.length !== 1) {
    const unset = Object.keys(sources).find((name) => name in options)
    const none =
      unset === undefined ? 'none' : `none, because ${unset} is undefined: is the variable set that it comes from?`
    throw new ConfigurationError(
      `${what}: expected exactly one of connection, connectionString and pool; got ${given.length === 0 ? none : given.length}`,
    )
  }
  if (pool !== undefined) {
    checkPool(pool, what)
    const settings = ofPool(pool, what)
    return { settings: async () => ({ ...settings }) }
  }
  if (connection === undefined && typeof connectionString !== 'string') {
    throw new ConfigurationError(
      `${what}: option connectionString: expected a string; got ${describeValue(connectionString, ['connectionString'])}`,
      { option: 'connectionString' },
    )
  }
  const direct = connection ?? connectionString
  if (typeof direct === 'function') return { settings: async () => ofDirect(await direct(), what) }
  const settings = ofDirect(direct, what)
  return { settings: async () => ({ ...settings }) }
}

/**
 * The configuration for one attempt. A function of the caller's may ask a vault that is down or does not answer: that fails
 * the attempt as an unreachable server does, and the next one asks again.
 *
 * @throws {ConnectionError} when it fails, or gives nothing within `limitMs`; or the signal's reason
 */
export async function settingsFrom(
  source: ConnectionSource,
  { limitMs, signal }: { readonly limitMs: number; readonly signal: AbortSignal | undefined },
): Promise<ClientConfig> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const message = `option connection: expected its function to give a configuration within ${limitMs} ms, got none; look for what it waits for`
    late.reject(new ConnectionError(message))
  }, limitMs)
  try {
    return await untilAborted(Promise.race([source.settings(), late.promise]), signal)
  } catch (error) {
    signal?.throwIfAborted()
    throw fromConnectError(error, 'the function of option connection')
  } finally {
    clearTimeout(timer)
  }
}

/** Options of a pool that are not options of a connection, or that would end a connection which is meant to stay. */
const poolOnly = new Set([
  'max',
  'min',
  'idleTimeoutMillis',
  'maxUses',
  'maxLifetimeSeconds',
  'allowExitOnIdle',
  'log',
  'Client',
  'Promise',
  'onConnect',
  'verify',
  // How long a caller may wait for a client; how long we may take to connect is `detectMs`.
  'connectionTimeoutMillis',
  // Limits for the pool's short statements; a statement of a session carries its own.
  'statement_timeout',
  'query_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'pipeline',
  'binary',
  'types',
])

function ofPool(pool: PgPool, what: string): ClientConfig {
  const options: unknown = pool.options
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(`${what}: option pool: expected a pg Pool; got an object without options`, {
      option: 'pool',
    })
  }
  const settings: Record<string, unknown> = {}
  // The pool hides its password from enumeration, so that it is not printed.
  for (const name of new Set([...Object.keys(options), 'password', 'ssl'])) {
    const value: unknown = Reflect.get(options, name)
    if (!poolOnly.has(name) && value !== undefined) settings[name] = value
  }
  return settings as ClientConfig
}

function ofDirect(direct: unknown, what: string): ClientConfig {
  if (typeof direct === 'string') return ofUrl(direct, what)
  if (typeof direct !== 'object' || direct === null || Array.isArray(direct)) {
    throw new ConfigurationError(
      `${what}: option connection: expected a connection string, a configuration or a function that gives one; got ${
        direct === null ? 'null' : typeof direct
      }`,
      { option: 'connection' },
    )
  }
  if ('connect' in direct) {
    const got =
      'connectionParameters' in direct ? 'a pg Client, which is somebody else’s' : 'a pool, which goes into pool'
    throw new ConfigurationError(
      `${what}: option connection: expected settings, of which a connection is made; got ${got}`,
      { option: 'connection' },
    )
  }
  const { connectionString, ...rest } = direct as ClientConfig
  return connectionString === undefined ? { ...rest } : { ...rest, ...ofUrl(connectionString, what) }
}

/** The driver parses the string when it connects; an error of its parser would quote the password. */
function ofUrl(connectionString: string, what: string): ClientConfig {
  try {
    if (connectionString.length === 0) throw new TypeError('empty')
    const { host } = new pg.Client({ connectionString })
    // The driver reads what is no URL, such as libpq's host=… dbname=…, as a path on a host of that name.
    if (host === 'base' && !connectionString.includes('//')) throw new TypeError('no URL')
  } catch {
    throw new ConfigurationError(
      `${what}: option connectionString: expected postgres://user:password@host:5432/database (not shown here, because it may hold a password); got something else`,
      { option: 'connectionString' },
    )
  }
  return { connectionString }
}
