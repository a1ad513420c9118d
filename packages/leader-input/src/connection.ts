import { ConnectionError, type Policy } from '@x/lock-core'
import { fromPgError, isLostName, plainTypes, preparedName, type Row, type Statement } from '@x/pg-session'
import type { PoolClient, QueryResult } from 'pg'

/** One client of the pool, in one pair of hands. */
export interface Connection {
  /**
   * Rows as arrays; prepared once a connection.
   * @param withinMs how long an answer is waited for, before the line counts as dead
   */
  rows(statement: Statement, values?: unknown[], withinMs?: number): Promise<Row[]>
  /** The same, and each value is the text that the server sent, whatever its type. */
  texts(statement: Statement, values?: unknown[], withinMs?: number): Promise<Row[]>
  /** SQL without parameters, several statements allowed. Gives the last command's tag. */
  run(text: string, withinMs?: number): Promise<string>
  /** For the handler: SQL of its own, errors of the driver untouched. */
  raw(text: string, values?: unknown[]): Promise<QueryResult>
  /** Whether the connection is known to be gone. */
  readonly isBroken: boolean
  readonly isReleased: boolean
  /** By the server's last answer no transaction is open. False where the driver does not tell (`pg` before 8.21). */
  readonly isIdle: boolean
  /** The server's process at the other end, as the server named it; null where the driver does not tell. */
  readonly backend: string | null
  /** Gives the client back, or ends it when it is broken or `destroy` says so. Idempotent. */
  release(destroy?: boolean): void
}

/** Most statements of ours do not take this long on a line that is alive. */
const statementTimeoutMs = 20_000
/** For a page or a chunk, which may have to pass over millions of rows that are not meant. */
export const pageTimeoutMs = 60_000
/** For what counts the log. */
export const scanTimeoutMs = 600_000
/** For those that wait for a handler, or rewrite the log: the most that a timer can do. */
export const unhurriedMs = 2_147_483_647

/** What the connections of one input have in common. */
export interface Shared {
  /** Wraps each statement that is not inside of a transaction, of which only the whole can be tried again. */
  readonly policy: Policy | undefined
  /** Prepared statements last: behind a transaction pooler they do not. */
  namesLast: boolean
  /** Ends each connect and each statement that is on its way. */
  readonly waiting: Set<() => void>
}

export function connectionOver(client: PoolClient, shared: Shared): Connection {
  let broken = false
  let released = false
  /** By what has been sent: between BEGIN and the end of the transaction. */
  let inside = false
  // The pool takes its own listener away with the client, and an error without a listener would end the process.
  const onError = (): void => {
    broken = true
  }
  client.on?.('error', onError)
  const send = async (what: string, query: () => Promise<QueryResult>, withinMs: number): Promise<QueryResult> => {
    if (released || broken) throw new ConnectionError(`${what}: the connection is gone; a new one is needed`)
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        broken = true
        reject(new ConnectionError(`${what}: no answer within ${withinMs} ms; the connection is given up`))
      }, withinMs)
    })
    const end = (): void => connection.release(true)
    shared.waiting.add(end)
    try {
      return await Promise.race([query(), silence])
    } catch (error) {
      const ours = fromPgError(error, what)
      if (ours.code === 'CONNECTION') broken = true
      throw ours
    } finally {
      clearTimeout(timer)
      shared.waiting.delete(end)
    }
  }
  const guarded = async <T>(attempt: () => Promise<T>): Promise<T> => {
    if (shared.policy === undefined || inside) return attempt()
    let unanswered = 0
    try {
      return await shared.policy.execute(() => {
        unanswered += 1
        return attempt().finally(() => {
          unanswered -= 1
        })
      })
    } finally {
      // The policy has given up on a statement with which the server goes on.
      if (unanswered > 0) broken = true
    }
  }
  const ask = (
    statement: Statement,
    values: unknown[],
    withinMs: number,
    types: typeof asSent | typeof plainTypes,
  ): Promise<Row[]> => {
    const { name, text } = statement
    const query = (): Promise<QueryResult> => {
      const prepared = shared.namesLast ? preparedName(statement) : undefined
      const config = { name: prepared, text, values, rowMode: 'array', types }
      return client.query<unknown[]>(config as never) as unknown as Promise<QueryResult>
    }
    return guarded(async () => {
      const idle = isIdle(client)
      try {
        return (await send(`statement ${name}`, query, withinMs)).rows
      } catch (error) {
        if (!isLostName(error)) throw error
        // Nothing ran. A transaction is over with this; whoever runs it tries again.
        shared.namesLast = false
        if (!idle) throw error
        return (await send(`statement ${name}`, query, withinMs)).rows
      }
    })
  }
  const connection: Connection = {
    rows: (statement, values = [], withinMs = statementTimeoutMs) => ask(statement, values, withinMs, plainTypes),
    texts: (statement, values = [], withinMs = statementTimeoutMs) => ask(statement, values, withinMs, asSent),
    async run(text, withinMs = statementTimeoutMs) {
      const result: unknown = await guarded(() =>
        send(`statement ${text.slice(0, 40)}`, () => client.query(text), withinMs),
      )
      if (/^\s*BEGIN\b/.test(text)) inside = true
      else if (/^(?:COMMIT|ROLLBACK)$/.test(text)) inside = false
      const last: unknown = Array.isArray(result) ? result.at(-1) : result
      return (last as QueryResult).command
    },
    async raw(text, values) {
      if (released || broken) throw new ConnectionError('the connection is gone; the batch is tried again on a new one')
      return client.query(text, values)
    },
    get isBroken() {
      return broken
    },
    get isReleased() {
      return released
    },
    get isIdle() {
      return isIdle(client)
    },
    get backend() {
      const pid: unknown = Reflect.get(client, 'processID')
      return typeof pid === 'number' ? String(pid) : null
    },
    release(destroy = false) {
      if (released) return
      released = true
      client.off?.('error', onError)
      if (!broken && !destroy) return client.release()
      // A client that is destroyed may still emit; nobody listens to it any more.
      client.on?.('error', () => {})
      client.release(true)
      // The pool ends it politely, which a stopped server or a dead line would never answer.
      const stream = (client as { readonly connection?: { readonly stream?: { destroy(): void } } }).connection?.stream
      stream?.destroy()
    },
  }
  return connection
}

/** For the driver: no type is parsed. */
const asSent = { getTypeParser: () => (text: string) => text }

/** Known to be outside of a transaction. */
function isIdle(client: PoolClient): boolean {
  return transactionStatus(client) === 'I'
}

/** Known to be inside of one: of somebody who gave the client back too early. */
export function isInTransaction(client: PoolClient): boolean {
  const status = transactionStatus(client)
  return status === 'T' || status === 'E'
}

/** As the server's last answer said; undefined where the driver does not tell. */
function transactionStatus(client: PoolClient): unknown {
  const status: unknown = Reflect.get(client, 'getTransactionStatus')
  return typeof status === 'function' ? status.call(client) : undefined
}
