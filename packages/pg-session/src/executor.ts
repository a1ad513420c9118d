import { ConfigurationError, NotInTransactionError, type SqlExecutor } from '@x/lock-core'
import { fromPgError } from './sqlstate.ts'

/** What our statements need of the caller's transaction. */
export interface Executor {
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

/** True in an open transaction: there `now()` is the time of BEGIN, and in autocommit that of the statement. */
export const inTransactionSql = 'now() <> statement_timestamp()'

/**
 * Asks the server whether the executor is inside an open transaction.
 *
 * @throws {NotInTransactionError}
 */
export async function assertInTransaction(executor: Executor, what: string): Promise<void> {
  const rows = await executor.query<{ inside: boolean }>(`SELECT ${inTransactionSql} AS inside`, [])
  if (rows[0]?.inside !== true) throw notInTransaction(what)
}

/** For statements that look at `inTransactionSql` themselves, in the same round trip. */
export function notInTransaction(what: string): NotInTransactionError {
  return new NotInTransactionError(
    `${what}: expected an open transaction, got a connection in autocommit, where the effect would end with the statement; ${howTo}`,
  )
}

interface QueryObject {
  query(text: string, values: unknown[]): Promise<unknown>
}

interface KyselyTransaction {
  executeQuery(query: object): Promise<{ rows: unknown[] }>
}

class QueryExecutor implements Executor {
  readonly #target: QueryObject
  readonly #what: string

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
