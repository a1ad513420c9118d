import { ConfigurationError, hasErrorCode, SchemaError, type SqlExecutor, StaleFenceError } from '@x/lock-core'
import { checkOptionNames } from '@x/lock-core/adapter'
import { asExecutor, notInTransaction, sameTransactionSql, transactionMark } from './executor.ts'
import { quoteIdentifier } from './identifiers.ts'
import { defaultSchema, toMigrate } from './to-migrate.ts'

/**
 * A scalar SQL expression: the base of this server's tokens, `(offset + timeline) * 2^48`. The subquery depends on no row, so
 * the server evaluates it once a statement, whatever the number of rows; `fencing_rebase()` runs only the first time after a
 * start of the server.
 *
 * Draw the number *after* the lock is granted: where it stands in VALUES, the later of two grants can get the lower one.
 */
export function fencingBaseSql(schema: string): string {
  const home = quoteIdentifier(schema, 'schema')
  return (
    `coalesce((SELECT f.base FROM ${home}.fencing AS f WHERE f.server_started_at = pg_postmaster_start_time()` +
    ` AND f.table_oid = f.tableoid), ${home}.fencing_rebase())`
  )
}

/**
 * Records the highest token seen for the resource. The row stays locked until the caller's transaction ends: a writer with a
 * newer token waits for this one, and this one is refused if the newer was first. No row comes back outside a transaction.
 */
const checkFenceSql = (schema: string): string => `
  INSERT INTO ${quoteIdentifier(schema, 'schema')}.fences AS f (resource, token)
  SELECT $1, $2::bigint WHERE ${sameTransactionSql('$3')}
  ON CONFLICT (resource) DO UPDATE
     SET token = greatest(f.token, excluded.token), seen_at = clock_timestamp()
  RETURNING f.token::text AS newest`

const largestToken = 2n ** 63n - 1n

/**
 * Lets this transaction write to `resource` only if no newer token was seen for it, on whichever database has the migration.
 * It turns "the lock service said so" into "the write is safe": call it in the transaction that writes, before the write.
 * An equal token passes. After a refusal roll back.
 *
 * Source: Kleppmann, "How to do distributed locking" (2016).
 *
 * @param executor the caller's open transaction
 * @param fence.resource 1 byte to 1 KiB; by convention the key of the lock
 * @param fence.token `lock.fencingToken`
 * @param fence.schema @default 'coordination'
 * @throws {StaleFenceError} when a newer token was seen
 * @throws {NotInTransactionError} outside a transaction, where the check would protect nothing
 * @throws {SchemaError} when the migration was not run
 * @example
 * await client.query('BEGIN')
 * await checkFence(client, { resource: 'report', token: lock.fencingToken })
 * await client.query('UPDATE report SET ...')
 * await client.query('COMMIT')
 */
export async function checkFence(
  executor: SqlExecutor,
  fence: { resource: string; token: bigint; schema?: string | undefined },
): Promise<void> {
  const what = 'checkFence'
  checkOptionNames(fence, ['resource', 'token', 'schema'], what)
  const { resource, token, schema = defaultSchema } = fence
  if (typeof resource !== 'string' || resource.length === 0 || Buffer.byteLength(resource) > 1_024) {
    throw new ConfigurationError(`${what}: option resource: expected a string of 1 byte to 1 KiB`, {
      option: 'resource',
    })
  }
  if (resource.includes('\0') || !resource.isWellFormed()) {
    throw new ConfigurationError(`${what}: option resource: expected well-formed Unicode without NUL`, {
      option: 'resource',
    })
  }
  if (typeof token !== 'bigint' || token < 0n || token > largestToken) {
    throw new ConfigurationError(
      `${what}: option token: expected lock.fencingToken, a bigint from 0 to 2^63-1; got ${
        token === null ? 'null: this lock has no fencing token' : typeof token === 'bigint' ? token : typeof token
      }`,
      { option: 'token' },
    )
  }
  const text = checkFenceSql(schema)
  const transaction = asExecutor(executor, what)
  const mark = await transactionMark(transaction)
  const [row] = await transaction
    .query<{ newest: string }>(text, [resource, String(token), mark])
    .catch((error: unknown) => {
      if (!hasErrorCode(error, 'SCHEMA_MISSING')) throw error
      const missing = `${what}: expected the tables of fencing in schema ${quoteIdentifier(schema)}, got none`
      // Two packages export this function.
      const advice = `${toMigrate('@x/lock-table/migrations', schema)}; '@x/lock-advisory/migrations' has them as well`
      throw new SchemaError('SCHEMA_MISSING', `${missing}; ${advice}`, { cause: error.cause })
    })
  if (row === undefined) throw notInTransaction(what)
  const newest = BigInt(row.newest)
  if (newest > token) throw new StaleFenceError({ resource, token, newest })
}
