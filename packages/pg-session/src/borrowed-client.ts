import { ConnectionError, type PgPool } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { refuseNative } from './client.ts'
import type { Limit } from './limit.ts'
import { plainTypes } from './plain-types.ts'
import { preparedName } from './prepared-name.ts'
import { fromConnectError, fromPgError, isAnswer } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'
import { isEventful, type PoolClient, requestClient } from './take-client.ts'

interface Answer {
  readonly rows: unknown[]
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
  static from(pool: PgPool, limit: Limit): Promise<BorrowedClient> {
    return limit.wait(
      (resolve, reject) =>
        requestClient(pool, (error, client) => {
          if (client === undefined) {
            reject(fromConnectError(error, limit.what))
            return
          }
          const borrowed = new BorrowedClient(client)
          try {
            refuseNative(client, limit.what)
          } catch (refusal) {
            reject(refusal)
          }
          // One that is refused or comes too late is nobody's.
          if (!resolve(borrowed)) borrowed.giveBack()
        }),
      () => exhausted(pool, limit),
    )
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
      const answer = await limit.wait<Answer>((resolve, reject) => {
        this.#send(statement, values, named).then(resolve, reject)
      }, late)
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
      await limit.wait(
        (resolve, reject) => void this.#client.query(sql).then(resolve, reject),
        () => tooSlow({ name: limit.what, text: sql }, limit),
      )
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

  #send(statement: Statement, values: unknown[], named: boolean): Promise<Answer> {
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
function takesConfig(client: object): client is { query(config: object): Promise<Answer> } {
  return 'connectionParameters' in client
}

/** Rows of other drivers come as objects; our statements give each column a name of its own, in order. */
function asArrays(rows: unknown[]): unknown[] {
  if (rows.length === 0 || Array.isArray(rows[0])) return rows
  return rows.map((row) => (typeof row === 'object' && row !== null ? Object.values(row) : []))
}
