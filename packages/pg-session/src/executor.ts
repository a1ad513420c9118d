import { ConfigurationError, NotInTransactionError, type SqlExecutor } from '@x/lock-core'
import { fromPgError } from './sqlstate.ts'

/** What our statements need of the caller's transaction. */
export interface Executor {
  /** The driver says that a transaction is open; null where only the server can tell. */
  readonly isInTransaction: true | null
  /** Rows as objects; columns need one-word lower-case aliases, because naming plugins rewrite others. */
  query<R extends object>(text: string, values: unknown[]): Promise<R[]>
}

const howTo = 'pass a client after BEGIN, a Kysely transaction, or an object whose query() runs on one'

/**
 * One shape for a `pg` client, a Kysely transaction, and an object with `query(text, values)`.
 *
 * @throws {NotInTransactionError} for a pool, or a Kysely instance outside a transaction
 * @throws {ConfigurationError} for anything else
 */
export function asExecutor(executor: SqlExecutor, what: string): Executor {
  // Seen as unknown: callers in JavaScript, and pools of another major version, pass what the types refuse.
  const given: unknown = executor
  if (typeof given !== 'object' || given === null) throw notAnExecutor(what, given)
  if ('executeQuery' in given && typeof given.executeQuery === 'function') {
    if (!('isTransaction' in given) || given.isTransaction !== true) {
      throw new NotInTransactionError(`${what}: expected a Kysely transaction, got a Kysely instance; ${howTo}`)
    }
    return new KyselyExecutor(given as KyselyTransaction, what)
  }
  if (!('query' in given) || typeof given.query !== 'function') throw notAnExecutor(what, given)
  if ('totalCount' in given || 'idleCount' in given) {
    throw new NotInTransactionError(
      `${what}: expected an open transaction, got a pool, whose statements are transactions of their own; ${howTo}`,
    )
  }
  return new QueryExecutor(given as QueryObject, what)
}

/** When the transaction began, in microseconds: the same for all statements of one, and never for two of autocommit. */
const startedSql = '(extract(epoch FROM now()) * 1000000)::bigint::text'

/**
 * A condition that holds in the transaction in which `transactionMark` was read. (Whether `now()` is the time of the
 * statement says nothing: with parameters they differ by the time between two messages, outside a transaction too.)
 *
 * @param parameter the mark's, such as `$3`
 */
export const sameTransactionSql = (parameter: string): string =>
  `(${parameter}::text IS NULL OR ${startedSql} = ${parameter}::text)`

/** What tells this transaction from another; null when the driver knows that one is open, which saves the round trip. */
export async function transactionMark(executor: Executor): Promise<string | null> {
  if (executor.isInTransaction) return null
  const rows = await executor.query<{ mark: string }>(`SELECT ${startedSql} AS mark`, [])
  return rows[0]?.mark ?? ''
}

/**
 * Makes sure that the executor is inside an open transaction: the driver says so, or two statements began together.
 *
 * @throws {NotInTransactionError}
 */
export async function assertInTransaction(executor: Executor, what: string): Promise<void> {
  const mark = await transactionMark(executor)
  if (mark !== null && mark !== (await transactionMark(executor))) throw notInTransaction(what)
}

/** For statements that look at `sameTransactionSql` themselves. */
export function notInTransaction(what: string): NotInTransactionError {
  return new NotInTransactionError(
    `${what}: expected an open transaction, got a connection in autocommit, where the effect would end with the statement; ${howTo}`,
  )
}

interface QueryObject {
  query(text: string, values: unknown[]): Promise<unknown>
  /** Of a client of `pg` from 8.21 on. */
  getTransactionStatus?: unknown
}

interface KyselyTransaction {
  executeQuery(query: object): Promise<{ rows: unknown[] }>
}

class QueryExecutor implements Executor {
  readonly #target: QueryObject
  readonly #what: string

  get isInTransaction(): true | null {
    const { getTransactionStatus } = this.#target
    // 'T' of the last ReadyForQuery. Anything else may be out of date: BEGIN may be on its way.
    return typeof getTransactionStatus === 'function' && getTransactionStatus.call(this.#target) === 'T' ? true : null
  }

  constructor(target: QueryObject, what: string) {
    this.#target = target
    this.#what = what
  }

  async query<R extends object>(text: string, values: unknown[]): Promise<R[]> {
    let answer: unknown
    try {
      answer = await this.#target.query(text, values)
    } catch (error) {
      throw fromPgError(error, this.#what)
    }
    const rows = Array.isArray(answer) ? answer : rowsOf(answer)
    if (rows === undefined) {
      throw new ConfigurationError(
        `${this.#what}: expected the executor's query() to resolve to rows or { rows }; got ${describe(answer)}`,
      )
    }
    return rows as R[]
  }
}

class KyselyExecutor implements Executor {
  readonly isInTransaction = true
  readonly #target: KyselyTransaction
  readonly #what: string

  constructor(target: KyselyTransaction, what: string) {
    this.#target = target
    this.#what = what
  }

  async query<R extends object>(text: string, values: unknown[]): Promise<R[]> {
    // What CompiledQuery.raw() of kysely gives, built here so that whoever does not use kysely need not install it.
    const compiled = {
      sql: text,
      parameters: values,
      query: { kind: 'RawNode', sqlFragments: [text], parameters: [] },
      queryId: { queryId: '' },
    }
    try {
      return (await this.#target.executeQuery(compiled)).rows as R[]
    } catch (error) {
      throw fromPgError(error, this.#what)
    }
  }
}

function rowsOf(answer: unknown): unknown[] | undefined {
  if (typeof answer !== 'object' || answer === null || !('rows' in answer)) return undefined
  return Array.isArray(answer.rows) ? answer.rows : undefined
}

function notAnExecutor(what: string, got: unknown): ConfigurationError {
  return new ConfigurationError(`${what}: expected an executor; got ${describe(got)}; ${howTo}`, { option: 'executor' })
}

function describe(value: unknown): string {
  return value === null ? 'null' : typeof value === 'object' ? 'an object of another shape' : `a ${typeof value}`
}
