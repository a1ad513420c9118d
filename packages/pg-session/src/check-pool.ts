import { ConfigurationError, type PgPool } from '@x/lock-core'
import { describeValue } from '@x/lock-core/adapter'

const expected = 'expected a pg Pool, such as new pg.Pool({ connectionString }) gives'

/**
 * @param where the function that the caller called, for messages
 * @throws {ConfigurationError} for anything but a pool: above all for a client, which has a `connect` as well, and does
 * what is asked of it until it should be given back
 */
export function checkPool(pool: unknown, where: string): asserts pool is PgPool {
  if (typeof pool !== 'object' || pool === null || !('connect' in pool) || typeof pool.connect !== 'function') {
    // As a secret: a connection string is what mostly stands there.
    throw refusal(where, describeValue(pool, ['connection']))
  }
  if ('connectionParameters' in pool) throw refusal(where, 'a pg Client, which is one connection')
}

function refusal(where: string, got: string): ConfigurationError {
  return new ConfigurationError(`${where}: option pool: ${expected}; got ${got}`, { option: 'pool' })
}
