import { type SqlExecutor, UnsupportedError } from '@x/lock-core'

/** What our statements need of the caller's transaction: rows as objects keyed by one-word aliases. */
export interface Executor {
  query<R extends object>(text: string, values: unknown[]): Promise<R[]>
}

/**
 * One shape for a `pg` client, a Kysely transaction, and an object with `query(text, values)`.
 * @throws {NotInTransactionError} for a pool or a Kysely instance outside a transaction
 */
export function asExecutor(_executor: SqlExecutor): Executor {
  throw new UnsupportedError('not yet')
}

/**
 * Asks the server whether the executor is inside an open transaction.
 * @throws {NotInTransactionError}
 */
export function assertInTransaction(_executor: Executor, _what: string): Promise<void> {
  throw new UnsupportedError('not yet')
}
