import { ClosedError, ConnectionError, type PgPool, type Policy } from '@x/lock-core'
import { fromConnectError, openPool, refuseNative, takeClient } from '@x/pg-session'
import type { PoolClient } from 'pg'
import { type Connection, connectionOver, isInTransaction, type Shared } from './connection.ts'

export type { Connection } from './connection.ts'

/** So many clients left in a transaction are ended one after the other before the pool is believed to give no others. */
const mostLeftOpen = 100

/** A pool that has no client for so long has none left. Whoever leads must not hold the lead for ever and do nothing. */
const poolPatienceMs = 20_000

/** Where the input's connections come from: the caller's pool, or a small one of its own. */
export interface Connections {
  /** @throws {ConnectionError} */
  connect(): Promise<Connection>
  /** Takes a connection for the time of `fn`. */
  use<T>(fn: (connection: Connection) => Promise<T>): Promise<T>
  /**
   * The same for what can be done without: null while an earlier asking of this kind still waits, because a pool without a
   * client to spare keeps everyone who asks.
   */
  useSpare<T>(fn: (connection: Connection) => Promise<T>): Promise<T | null>
  /** One transaction; rolled back when `fn` rejects. */
  transaction<T>(fn: (connection: Connection) => Promise<T>): Promise<T>
  readonly pool: PgPool
  /** Ends what waits for an answer to a connect or to a statement of ours: nobody waits for it any more. */
  giveUp(): void
  /** Ends only a pool that was opened here. Idempotent. */
  close(): Promise<void>
}

export function connections(
  {
    pool,
    connectionString,
    policy,
  }: { pool?: PgPool | undefined; connectionString?: string | undefined; policy?: Policy | undefined },
  applicationName: string,
): Connections {
  const own =
    pool === undefined ? openPool({ connectionString, max: 4, application_name: applicationName }, undefined) : null
  const source = pool ?? own?.pool
  if (source === undefined) throw new ClosedError('leader input')
  const shared: Shared = { policy, namesLast: true, waiting: new Set() }
  let closed = false
  let asksForSpare = false

  const connect = async (patienceMs = poolPatienceMs): Promise<Connection> => {
    for (let left = mostLeftOpen; left > 0; left -= 1) {
      const client = await borrow(patienceMs)
      if (!isInTransaction(client)) return connectionOver(client, shared)
      // Somebody gave it back too early. What we read there might be as old as that transaction, and what we commit is his.
      client.release(true)
    }
    throw new ConnectionError(
      'every client of the pool comes inside of a transaction; expected clients that are in none',
    )
  }
  const borrow = async (patienceMs: number): Promise<PoolClient> => {
    if (closed) throw new ClosedError('leader input')
    const client = takeClient(source) as Promise<PoolClient>
    let stopWaiting = (_why: string): void => {}
    const givenUp = new Promise<never>((_, reject) => {
      stopWaiting = (why) => {
        client.then((late) => late.release()).catch(() => {})
        reject(new ConnectionError(`connecting for the input was given up, because ${why}`))
      }
    })
    const onGiveUp = (): void => stopWaiting('the input was stopped')
    const runOut = (): void =>
      stopWaiting(`the pool gave no client within ${patienceMs} ms: are all of them in use, or its max too low?`)
    const timer = patienceMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(runOut, patienceMs)
    shared.waiting.add(onGiveUp)
    try {
      const connected = await Promise.race([client, givenUp])
      try {
        refuseNative(connected, 'leader input')
      } catch (refusal) {
        connected.release()
        throw refusal
      }
      return connected
    } catch (error) {
      throw fromConnectError(error, 'connecting for the input')
    } finally {
      clearTimeout(timer)
      shared.waiting.delete(onGiveUp)
    }
  }
  const use = async <T>(fn: (connection: Connection) => Promise<T>): Promise<T> => useAndRelease(await connect(), fn)
  return {
    pool: source,
    connect: () => connect(),
    use,
    async useSpare(fn) {
      if (asksForSpare) return null
      asksForSpare = true
      const connection = await connect(Number.POSITIVE_INFINITY).finally(() => {
        asksForSpare = false
      })
      return useAndRelease(connection, fn)
    },
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

async function useAndRelease<T>(connection: Connection, fn: (connection: Connection) => Promise<T>): Promise<T> {
  try {
    return await fn(connection)
  } finally {
    connection.release()
  }
}

/**
 * One transaction on a connection that is in none; rolled back when `fn` rejects. Each of its statements sees what was
 * committed before it, whatever the database's default is.
 */
export async function inTransaction<T>(connection: Connection, fn: (connection: Connection) => Promise<T>): Promise<T> {
  await connection.run('BEGIN ISOLATION LEVEL READ COMMITTED')
  try {
    const result = await fn(connection)
    await connection.run('COMMIT')
    return result
  } catch (error) {
    await connection.run('ROLLBACK').catch(() => connection.release(true))
    throw error
  }
}
