import type { CoordinationError } from '@x/lock-core'
import { createRunner, fromPgError, type Row, type Runner, type Statement, type StatementOptions } from '@x/pg-session'
import { objectOf, tableNames } from './names.ts'
import type { ResolvedTableLockerOptions } from './options.ts'
import { checkLockTable } from './schema.ts'
import type { LockingStatement } from './statements/sql.ts'
import { type TableStatements, tableStatements } from './statements.ts'

/** What one look at the database told, before the first statement of a locker. */
interface Ground {
  /** The functions of the migration are there; else statements that lock first run as transactions of two statements. */
  readonly functions: boolean
  /** Longest ttl that the database knows of. */
  maxTtlMs: number
  /** It has readers and writers that know nothing of leases. */
  readonly adopted: boolean
}

/** Milliseconds for a statement whose answer nothing else limits. */
export const statementTimeoutMs = 5_000

const functionNames = [
  'lock_grant_alike',
  'lock_grant',
  'lock_release',
  'lock_renew',
  'lock_renew_shares',
  'lock_hand_off',
]

/** The lock table as the protocol sees it: its statements, each in a transaction of its own, on the caller's pool. */
export class LockStore {
  readonly statements: TableStatements
  readonly #options: ResolvedTableLockerOptions
  readonly #runner: Runner
  #ground: Promise<Ground> | null = null
  #known: Ground | null = null
  #raising: Promise<void> | null = null

  constructor(options: ResolvedTableLockerOptions) {
    this.#options = options
    this.statements = tableStatements(tableNames(options.schema, options.table))
    this.#runner = createRunner({
      pool: options.pool,
      connectionString: options.connectionString,
      applicationName: 'lock-table',
      policy: options.policy,
      logger: options.logger,
    })
  }

  /** @throws {SchemaError} when the migration is missing, too old or too new; @throws {ConnectionError} */
  query<R extends Row>(statement: Statement, values: unknown[], options?: StatementOptions): Promise<R[]> {
    const query = (): Promise<R[]> =>
      this.#runner.query<R>(statement, values, { timeoutMs: statementTimeoutMs, ...options })
    return this.#known === null ? this.ready().then(query) : query()
  }

  /** Locks rows and then looks at them, in one round trip where the server has the function for it. */
  async queryLocked<R extends Row>(
    statement: LockingStatement,
    values: readonly unknown[],
    options?: StatementOptions,
  ): Promise<R[]> {
    const ground = await this.ready()
    const limits = { timeoutMs: statementTimeoutMs, ...options }
    if (ground.functions) return this.#runner.query<R>(statement.call, [...values], limits)
    return this.#runner.transaction(async (transaction) => {
      await transaction.query(statement.lock, [values[0]])
      return transaction.query<R>(statement.afterwards, values.slice(0, statement.parameters))
    }, limits)
  }

  /** Several statements in one transaction. */
  async transaction<T>(...[fn, options]: Parameters<Runner['transaction']>): Promise<T> {
    await this.ready()
    return (await this.#runner.transaction(fn, options)) as T
  }

  /** Makes sure that the database knows how long a lease may live, before one of that length is granted. */
  async admit(ttlMs: number): Promise<void> {
    const ground = await this.ready()
    // One at a time: a thousand callers who come at once wait for the same statement.
    while (ttlMs > ground.maxTtlMs) {
      this.#raising ??= this.#raise(ground, ttlMs).finally(() => {
        this.#raising = null
      })
      await this.#raising
    }
  }

  /** Whether {@link admit} has nothing to do. */
  admits(ttlMs: number): boolean {
    return this.#known !== null && ttlMs <= this.#known.maxTtlMs
  }

  /** The functions of the migration are there, as far as is known yet. */
  get hasFunctions(): boolean {
    return this.#known?.functions === true
  }

  /** Whoever hands a lock off has to notify the waiter, because no function does. */
  get notifiesItself(): boolean {
    return this.#known?.functions === false
  }

  /**
   * How a plain release commits. What a crash undoes of it ends with its lease, so it need not wait for the disk; but to the
   * readers of an adopted table a row that is acquired stays so until somebody writes it.
   */
  get releaseCommit(): 'on' | 'off' {
    return this.#known?.adopted === false ? 'off' : 'on'
  }

  ready(): Promise<Ground> {
    this.#ground ??= this.#look().catch((error: unknown) => {
      this.#ground = null
      throw error
    })
    return this.#ground
  }

  close(): Promise<void> {
    return this.#runner.close()
  }

  async #raise(ground: Ground, ttlMs: number): Promise<void> {
    await this.#runner.query(this.statements.raiseTtl, [ttlMs], { timeoutMs: statementTimeoutMs })
    ground.maxTtlMs = Math.max(ground.maxTtlMs, ttlMs)
  }

  async #look(): Promise<Ground> {
    const { schema, table } = this.#options
    await checkLockTable(this.#runner, schema, table)
    const names = functionNames.map((name) => objectOf(table, name))
    const [row] = await this.#runner.query(this.statements.ground, [schema, names, table], {
      timeoutMs: statementTimeoutMs,
    })
    const ground = {
      functions: Number(row?.[0]) >= names.length,
      maxTtlMs: Number(row?.[1] ?? 0),
      adopted: Number(row?.[2]) > 0,
    }
    this.#known = ground
    return ground
  }
}

/** Whether the statement may have run, or may run later: its answer was lost. Else it was rolled back or never sent. */
export const isAmbiguous = (error: unknown): boolean => asCoordinationError(error).code === 'CONNECTION'

/** Whether sending it again may succeed. */
export const isTransient = (error: unknown): boolean => {
  const { code, retryable } = asCoordinationError(error)
  return retryable || code === 'CONNECTION' || code === 'DEADLOCK'
}

/** Whether the server lets nobody in like this. A password that was changed stays wrong: who waits is told, nobody else would be. */
export const isRefused = (error: unknown): boolean => {
  const { code, retryable } = asCoordinationError(error)
  return code === 'CONNECTION' && !retryable
}

const asCoordinationError = (error: unknown): CoordinationError => fromPgError(error, 'lock table')
