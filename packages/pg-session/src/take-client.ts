import type { PgPool } from '@x/lock-core'

/** What a pool lends. */
export type PoolClient = Awaited<ReturnType<PgPool['connect']>>

/** What a client of `pg` has over the structural type. */
interface EventfulClient {
  on(event: 'error', listener: (error: unknown) => void): unknown
  removeListener(event: 'error', listener: (error: unknown) => void): unknown
}

export function isEventful(client: object): client is EventfulClient {
  return 'on' in client && 'removeListener' in client
}

/** Hears of the client, or of why there is none. */
type Taken = (error: unknown, client?: PoolClient) => void

/**
 * Asks the pool for a client. pg-pool takes its own listener away and hands a new client over in the midst of what it reads
 * from the socket; when the server ends the connection in that moment, its word stands right behind in the same read, before
 * any promise goes on, and an error without a listener ends the process. So `taken` is called at once, and has to listen to
 * the client before it returns.
 */
export function requestClient(pool: PgPool, taken: Taken): void {
  try {
    // What is not pg-pool takes no callback, and gives a promise.
    const connect: (callback: Taken) => Promise<PoolClient> | undefined = pool.connect
    connect.call(pool, taken)?.then((client) => taken(undefined, client), taken)
  } catch (error) {
    taken(error)
  }
}

/** A client of the pool, listened to until the borrower's turn has come. The client's next statement fails then. */
export function takeClient(pool: PgPool): Promise<PoolClient> {
  return new Promise((resolve, reject) => {
    requestClient(pool, (error, client) => {
      if (client === undefined) {
        reject(error)
        return
      }
      // Once, however many borrowers it has until then: one that is given back is handed on within the same turn.
      if (isEventful(client) && !listenedTo.has(client)) {
        listenedTo.add(client)
        client.on('error', ignore)
        setImmediate(() => {
          listenedTo.delete(client)
          client.removeListener('error', ignore)
        })
      }
      resolve(client)
    })
  })
}

const listenedTo = new WeakSet<object>()
const ignore = (): void => {}
