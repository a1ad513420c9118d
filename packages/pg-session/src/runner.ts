import { setTimeout as delay } from 'node:timers/promises'
import { ClosedError, ConfigurationError, type Logger, type PgPool, type Policy } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { BorrowedClient } from './borrowed-client.ts'
import { connectionSource } from './connection-source.ts'
import { Limit } from './limit.ts'
import { type OwnPool, openPool } from './own-pool.ts'
import { isLostName } from './prepared-name.ts'
import { isConflict } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'

export interface RunnerOptions {
  /** The caller's; never ended by us. Exactly one of the two is given. */
  pool?: PgPool | undefined
  /** A pool of our own, opened with the first statement. */
  connectionString?: string | undefined
  /** Shown in `pg_stat_activity`, for a pool of our own. */
  applicationName: string
  policy?: Policy | undefined
  logger?: Logger | undefined
}

export interface StatementOptions {
  /** Milliseconds for the whole call: waiting for a client, the statement, retries of 40001 and 40P01. @default 30_000 */
  timeoutMs?: number | undefined
  /** Gives the statement up; it may still run on the server. Rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Renewals, heartbeats, beats and releases bypass the policy. @default false */
  bypassPolicy?: boolean | undefined
  /** Called when the statement leaves: from then on it may have run, whatever the policy makes of it. */
  onSend?: (() => void) | undefined
}

interface RunnerTransaction {
  query<R extends Row = Row>(statement: Statement, values: unknown[]): Promise<R[]>
}

/** Runs statements on the caller's pool, or on one of its own. */
export interface Runner {
  /**
   * Runs one statement in a transaction of its own; rows come as arrays.
   *
   * @throws {ConnectionError} when no client came free in time, or the answer did not come: the statement may have run
   */
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: StatementOptions): Promise<R[]>
  /**
   * Runs `fn` between BEGIN ISOLATION LEVEL READ COMMITTED and COMMIT, whatever the role's default. `fn` may run several
   * times: a serialization failure or deadlock rolls back and starts over. The policy wraps each run as a whole.
   */
  transaction<T>(fn: (transaction: RunnerTransaction) => Promise<T>, options?: StatementOptions): Promise<T>
  /** Waits for what is in flight and ends a pool that the runner opened. Idempotent. */
  close(): Promise<void>
}

const defaultTimeoutMs = 30_000

/** First pause after a conflict; doubled each time up to 32 times as much, and jittered by half. */
const firstPauseMs = 4

/**
 * @throws {ConfigurationError} unless exactly one of pool and connectionString is given, and that one can be parsed
 * @example
 * const runner = createRunner({ pool, applicationName: 'lock-table' })
 * const rows = await runner.query<[string]>({ name: 'now', text: 'SELECT now()::text' }, [])
 */
export function createRunner(options: RunnerOptions): Runner {
  if ((options.pool === undefined) === (options.connectionString === undefined)) {
    throw new ConfigurationError(
      `expected exactly one of pool and connectionString; got ${options.pool === undefined ? 'none' : 'both'}`,
    )
  }
  const { connectionString, applicationName } = options
  // The driver parses it with the first statement, and its error would be none of ours.
  if (connectionString !== undefined) connectionSource({ connectionString }, applicationName)
  return new PoolRunner(options)
}

class PoolRunner implements Runner {
  readonly #options: RunnerOptions
  #ownPool: OwnPool | null = null
  /** Named statements pay one parse a connection; behind a transaction pooler they fail, and then they are not used. */
  #named = true
  /** When the latest statement was sent that had no answer. */
  #silentSince = Number.NEGATIVE_INFINITY
  #inFlight = 0
  #closing: Promise<void> | null = null
  #onIdle: () => void = () => {}

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: StatementOptions): Promise<R[]> {
    return this.#supervise(`statement ${statement.name}`, options, (limit) =>
      this.#withClient(limit, (client) => {
        options?.onSend?.()
        return client.query<R>(statement, values, limit, this.#named)
      }),
    )
  }

  transaction<T>(fn: (transaction: RunnerTransaction) => Promise<T>, options?: StatementOptions): Promise<T> {
    return this.#supervise('transaction', options, (limit) =>
      this.#withClient(limit, async (client) => {
        await client.query(begin, [], limit, false)
        try {
          const result = await fn({ query: (statement, values) => client.query(statement, values, limit, this.#named) })
          await client.query(commit, [], limit, false)
          return result
        } catch (error) {
          // A client whose connection broke is destroyed anyway; one that cannot roll back must be.
          if (!client.isBroken) await client.query(rollback, [], limit, false).catch(() => client.markBroken())
          throw error
        }
      }),
    )
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      const idle = Promise.withResolvers<void>()
      this.#onIdle = idle.resolve
      await idle.promise
    }
    await this.#ownPool?.end()
  }

  async #supervise<T>(
    what: string,
    options: StatementOptions | undefined,
    attempt: (limit: Limit) => Promise<T>,
  ): Promise<T> {
    if (this.#closing !== null) throw new ClosedError('database runner')
    const timeoutMs = options?.timeoutMs ?? defaultTimeoutMs
    const expiresAt = monotonicNow() + timeoutMs
    const signal = options?.signal
    signal?.throwIfAborted()
    // Of each attempt its own: one that a policy has given up goes on, and ends in time all the same.
    const within = (given: AbortSignal | undefined): Promise<T> =>
      attempt(new Limit({ what, timeoutMs, signal: given }, expiresAt))
    const { policy } = this.#options
    const once =
      policy === undefined || options?.bypassPolicy === true
        ? () => within(signal)
        : () => policy.execute((context) => within(either(signal, context.signal)))
    this.#inFlight += 1
    try {
      for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, firstPauseMs * 32)) {
        // Of this attempt: another one may have found out meanwhile that names do not last here.
        const named = this.#named
        const startedAt = monotonicNow()
        try {
          return await once()
        } catch (error) {
          if (signal?.aborted) throw signal.reason
          if (named && isLostName(error)) {
            this.#stopNaming()
            continue
          }
          const jitteredMs = pauseMs * (0.5 + Math.random())
          if (!isConflict(error)) throw error
          // One that takes as long as this one must fit: an attempt that runs out of time costs its connection, and its
          // outcome is not known.
          const now = monotonicNow()
          if (now + jitteredMs + (now - startedAt) >= expiresAt) throw error
          await delay(jitteredMs, undefined, { signal }).catch(() => signal?.throwIfAborted())
        }
      }
    } finally {
      this.#inFlight -= 1
      if (this.#inFlight === 0) this.#onIdle()
    }
  }

  /**
   * After a failover without a word, every idle connection leads nowhere. To try one after the other would take the time of a
   * statement for each, so those that have not answered since are not tried.
   */
  async #withClient<T>(limit: Limit, fn: (client: BorrowedClient) => Promise<T>): Promise<T> {
    try {
      let client = await BorrowedClient.from(this.#pool(), limit)
      while (client.isUnprovenSince(this.#silentSince)) {
        client.discard()
        client = await BorrowedClient.from(this.#pool(), limit)
      }
      try {
        return await fn(client)
      } finally {
        this.#silentSince = Math.max(this.#silentSince, client.unansweredSince)
        client.giveBack()
      }
    } finally {
      limit.end()
    }
  }

  #pool(): PgPool {
    const { pool, connectionString, applicationName, logger } = this.#options
    if (pool !== undefined) return pool
    this.#ownPool ??= openPool({ connectionString, application_name: applicationName }, logger)
    return this.#ownPool.pool
  }

  #stopNaming(): void {
    if (!this.#named) return
    this.#named = false
    this.#options.logger?.info(
      {},
      'prepared statements do not last on these connections (a transaction pooler): not used',
    )
  }
}

const begin: Statement = { name: 'begin', text: 'BEGIN ISOLATION LEVEL READ COMMITTED' }
const commit: Statement = { name: 'commit', text: 'COMMIT' }
const rollback: Statement = { name: 'rollback', text: 'ROLLBACK' }

function either(one: AbortSignal | undefined, other: AbortSignal | undefined): AbortSignal | undefined {
  return one === undefined || other === undefined ? (one ?? other) : AbortSignal.any([one, other])
}
