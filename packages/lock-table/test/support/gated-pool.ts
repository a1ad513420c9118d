import type { PgPool } from '@x/lock-core'
import type { Pool } from 'pg'

export interface GatedPool {
  readonly pool: PgPool
  /** How many of the statements have come to the gate so far. */
  readonly arrived: number
  /** Lets those through that wait, and all that come. */
  open(): void
}

/** A pool that holds back the statements whose names begin with `prefix`, until it is opened. */
export const gatedPool = (pool: Pool, prefix: string): GatedPool => {
  const opened = Promise.withResolvers<void>()
  const seen = new WeakSet<object>()
  let arrived = 0
  return {
    pool: {
      options: pool.options,
      async connect() {
        const client = await pool.connect()
        if (!seen.has(client)) {
          seen.add(client)
          const query = client.query.bind(client) as (...args: unknown[]) => unknown
          Reflect.set(client, 'query', async (config: { readonly name?: string }, ...rest: unknown[]) => {
            if (config.name?.startsWith(prefix)) {
              arrived += 1
              await opened.promise
            }
            return query(config, ...rest)
          })
        }
        return client
      },
    },
    get arrived() {
      return arrived
    },
    open: () => opened.resolve(),
  }
}
