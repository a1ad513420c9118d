import { ClosedError, ConnectionError, type PgPool } from '@x/lock-core'
import { fromPgError, isLostName, openPool, preparedName, type Row, type Statement } from '@x/pg-session'
import type { PoolClient, QueryResult } from 'pg'

/** Where the input's connections come from: the caller's pool, or a small one of its own. */
export interface Connections {
  /** @throws {ConnectionError} */
  connect(): Promise<Connection>
  /** Takes a connection for the time of `fn`. */
  use<T>(fn: (connection: Connection) => Promise<T>): Promise<T>
  /** One transaction; rolled back when `fn` rejects. */
  transaction<T>(fn: (connection: Connection) => Promise<T>): Promise<T>
  readonly pool: PgPool
  /** Ends what waits for an answer to a connect or to a statement of ours: nobody waits for it any more. */
  giveUp(): void
  /** Ends only a pool that was opened here. Idempotent. */
  close(): Promise<void>
}

/** One client of the pool, in one pair of hands. */
export interface Connection {
  /** Rows as arrays; prepared once a connection. */
  rows(statement: Statement, values?: unknown[]): Promise<Row[]>
  /** SQL without parameters, several statements allowed. Gives the last command's tag. */
  run(text: string): Promise<string>
  /** For the handler: SQL of its own, errors of the driver untouched. */
  raw(text: string, values?: unknown[]): Promise<QueryResult>
  /** Whether the connection is known to be gone. */
  readonly isBroken: boolean
  readonly isReleased: boolean
  /** Gives the client back, or ends it when it is broken or `destroy` says so. Idempotent. */
  release(destroy?: boolean): void
}

/** No statement of ours takes this long on a line that is alive. */
const statementTimeoutMs = 20_000

export function connections(
  { pool, connectionString }: { pool?: PgPool | undefined; connectionString?: string | undefined },
  applicationName: string,
): Connections {
  const own =
    pool === undefined ? openPool({ connectionString, max: 4, application_name: applicationName }, undefined) : null
  const source = pool ?? own?.pool
  if (source === undefined) throw new ClosedError('leader input')
  const shared: Shared = { namesLast: true, waiting: new Set() }
  let closed = false

  const connect = async (): Promise<Connection> => {
    if (closed) throw new ClosedError('leader input')
    const client = source.connect() as Promise<PoolClient>
    let onGiveUp = (): void => {}
    const givenUp = new Promise<never>((_, reject) => {
      onGiveUp = () => {
        client.then((late) => late.release()).catch(() => {})
        reject(new ConnectionError('connecting for the input was given up, because the input was stopped'))
      }
    })
    shared.waiting.add(onGiveUp)
    try {
      return connectionOver(await Promise.race([client, givenUp]), shared)
    } catch (error) {
      throw fromPgError(error, 'connecting for the input')
    } finally {
      shared.waiting.delete(onGiveUp)
    }
  }
  const use = async <T>(fn: (connection: Connection) => Promise<T>): Promise<T> => {
    const connection = await connect()
    try {
      return await fn(connection)
    } finally {
      connection.release()
    }
  }
  return {
    pool: source,
    connect,
    use,
    transaction: (fn) => use((connection) => inTransaction(connection, fn)),
    giveUp() {
      for (const end of shared.waiting) end()
    },
    async close() {
      if (closed) return
      closed = true
      await own?.end()
    },
  }
}

/** One transaction on a connection that is in none; rolled back when `fn` rejects. */
export async function inTransaction<T>(connection: Connection, fn: (connection: Connection) => Promise<T>): Promise<T> {
  await connection.run('BEGIN')
  try {
    const result = await fn(connection)
    await connection.run('COMMIT')
    return result
  } catch (error) {
    await connection.run('ROLLBACK').catch(() => connection.release(true))
    throw error
  }
}

/** What the connections of one input have in common. */
interface Shared {
  /** Prepared statements last: behind a transaction pooler they do not. */
  namesLast: boolean
  /** Ends each connect and each statement that is on its way. */
  readonly waiting: Set<() => void>
}

function connectionOver(client: PoolClient, shared: Shared): Connection {
  let broken = false
  let released = false
  // The pool takes its own listener away with the client, and an error without a listener would end the process.
  const onError = (): void => {
    broken = true
  }
  client.on?.('error', onError)
  const send = async (what: string, query: () => Promise<QueryResult>): Promise<QueryResult> => {
    if (released || broken) throw new ConnectionError(`${what}: the connection is gone; a new one is needed`)
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        broken = true
        reject(new ConnectionError(`${what}: no answer within ${statementTimeoutMs} ms; the connection is given up`))
      }, statementTimeoutMs)
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
  const connection: Connection = {
    async rows(statement, values = []) {
      const { name, text } = statement
      const idle = isIdle(client)
      const query = (): Promise<QueryResult> => {
        const prepared = shared.namesLast ? preparedName(statement) : undefined
        const config = { name: prepared, text, values, rowMode: 'array' }
        return client.query<unknown[]>(config as never) as unknown as Promise<QueryResult>
      }
      try {
        return (await send(`statement ${name}`, query)).rows
      } catch (error) {
        if (!isLostName(error)) throw error
        // Nothing ran. A transaction is over with this; whoever runs it tries again.
        shared.namesLast = false
        if (!idle) throw error
        return (await send(`statement ${name}`, query)).rows
      }
    },
    async run(text) {
      const result: unknown = await send(`statement ${text.slice(0, 40)}`, () => client.query(text))
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

/** Known to be outside of a transaction. */
function isIdle(client: PoolClient): boolean {
  const status: unknown = Reflect.get(client, 'getTransactionStatus')
  return typeof status === 'function' && status.call(client) === 'I'
}
