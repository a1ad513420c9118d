import { ConnectionError, type PgPool } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { refuseNative } from './client.ts'
import { plainTypes } from './plain-types.ts'
import { preparedName } from './prepared-name.ts'
import { fromConnectError, fromPgError, isAnswer } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'
import { isEventful, type PoolClient, takeClient } from './take-client.ts'

/** How long something may take. */
export interface Limit {
  /** For messages, such as `statement lock_grant`. */
  readonly what: string
  readonly timeoutMs: number
  /** Instant of `monotonicNow()`. */
  readonly expiresAt: number
  readonly signal: AbortSignal | undefined
}

/** When the last statement that each client has answered was sent, on the monotonic clock. */
const provenAt = new WeakMap<object, number>()

/**
 * A client of the caller's pool for the time of one statement or transaction. It is destroyed instead of given back when a
 * statement was given up, because the server may still be at it, and the answer would go to whoever has the client next.
 */
export class BorrowedClient {
  readonly #client: PoolClient
  #broken = false
  #unansweredSince = Number.NEGATIVE_INFINITY

  private constructor(client: PoolClient) {
    this.#client = client
    // pg-pool takes its own listener away while a client is out: a connection that breaks would end the process.
    if (isEventful(client)) client.on('error', this.#onError)
  }

  /** @throws {ConnectionError} when none comes free before the limit; or the signal's reason */
  static async from(pool: PgPool, limit: Limit): Promise<BorrowedClient> {
    const connecting = takeClient(pool)
    try {
      const client = await within(limit, connecting, () => exhausted(pool, limit))
      refuseNative(client, limit.what)
      return new BorrowedClient(client)
    } catch (error) {
      // One that comes too late is nobody's.
      connecting.then(
        (late) => late.release(),
        () => {},
      )
      if (limit.signal?.aborted) throw limit.signal.reason
      throw fromConnectError(error, limit.what)
    }
  }

  /** The connection is of no more use. */
  get isBroken(): boolean {
    return this.#broken
  }

  markBroken(): void {
    this.#broken = true
  }

  /** When the statement was sent whose answer did not come in time; long ago if there was none. */
  get unansweredSince(): number {
    return this.#unansweredSince
  }

  /** Whether it has answered before, and not since that instant. Nothing is known of one that the caller alone has used. */
  isUnprovenSince(instant: number): boolean {
    return (provenAt.get(this.#client) ?? Number.POSITIVE_INFINITY) < instant
  }

  /** Has the pool close the connection and open another one when it needs one. */
  discard(): void {
    this.#broken = true
    // A pool that gives the same client again all the same has it used.
    provenAt.delete(this.#client)
    this.giveBack()
  }

  async query<R extends Row>(statement: Statement, values: unknown[], limit: Limit, named: boolean): Promise<R[]> {
    const sentAt = monotonicNow()
    const late = (): ConnectionError => {
      this.#unansweredSince = sentAt
      return tooSlow(statement, limit)
    }
    try {
      const answer = await within(limit, this.#send(statement, values, named), late)
      provenAt.set(this.#client, sentAt)
      return asArrays(answer.rows) as R[]
    } catch (error) {
      if (!isAnswer(error)) this.#broken = true
      if (limit.signal?.aborted) throw limit.signal.reason
      throw fromPgError(error, `statement ${statement.name}`)
    }
  }

  /** Runs several statements at once, without values and without rows. */
  async script(sql: string, limit: Limit): Promise<void> {
    try {
      await within(limit, this.#client.query(sql), () => tooSlow({ name: limit.what, text: sql }, limit))
    } catch (error) {
      if (!isAnswer(error)) this.#broken = true
      if (limit.signal?.aborted) throw limit.signal.reason
      throw fromPgError(error, limit.what)
    }
  }

  giveBack(): void {
    if (isEventful(this.#client)) this.#client.removeListener('error', this.#onError)
    this.#client.release(this.#broken)
  }

  #send(statement: Statement, values: unknown[], named: boolean): Promise<{ rows: unknown[] }> {
    if (!takesConfig(this.#client)) return this.#client.query(statement.text, values)
    return this.#client.query({
      name: named && statement.prepared !== false ? preparedName(statement) : undefined,
      text: statement.text,
      values,
      rowMode: 'array',
      types: plainTypes,
    })
  }

  readonly #onError = (): void => {
    this.#broken = true
  }
}

/**
 * The result of the work, unless its limit comes first. What the work brings later is dropped.
 *
 * @throws the signal's reason, or what `late` gives
 */
function within<T>(limit: Limit, work: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const { signal } = limit
    const settle = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    const abort = (): void => {
      settle()
      reject(signal?.reason)
    }
    const remainingMs = Math.min(Math.max(limit.expiresAt - monotonicNow(), 0), 2_147_483_647)
    const timer = setTimeout(() => {
      settle()
      reject(late())
    }, remainingMs)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    work.then(
      (value) => {
        settle()
        resolve(value)
      },
      (error) => {
        settle()
        reject(error)
      },
    )
  })
}

function tooSlow(statement: Statement, limit: Limit): ConnectionError {
  return new ConnectionError(
    `database connection: expected an answer within ${limit.timeoutMs} ms, got none; it may have been carried out, and its connection was closed: look for locks that it waits for (statement ${statement.name})`,
  )
}

function exhausted(pool: PgPool, limit: Limit): ConnectionError {
  const count = (name: string): unknown => Reflect.get(pool, name)
  const waiting = count('waitingCount')
  const known = typeof waiting === 'number' ? ` (${count('totalCount')} open, ${waiting} callers waiting)` : ''
  return new ConnectionError(
    `database connection: the pool gave no client within ${limit.timeoutMs} ms${known}; give it a larger max, or look for clients that are not released and transactions that wait for a lock while they hold one (${limit.what})`,
  )
}

/** A client of `pg` takes a configuration; whatever else a caller passes as a pool takes text and values. */
function takesConfig(client: object): client is { query(config: object): Promise<{ rows: unknown[] }> } {
  return 'connectionParameters' in client
}

/** Rows of other drivers come as objects; our statements give each column a name of its own, in order. */
function asArrays(rows: unknown[]): unknown[] {
  if (rows.length === 0 || Array.isArray(rows[0])) return rows
  return rows.map((row) => (typeof row === 'object' && row !== null ? Object.values(row) : []))
}
