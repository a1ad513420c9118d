import type { PgPool } from '@x/lock-core'
import type { Pool } from 'pg'
import { watchedPool } from './watched-pool.ts'

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
  let arrived = 0
  return {
    pool: watchedPool(pool, async (name, send) => {
      if (name?.startsWith(prefix)) {
        arrived += 1
        await opened.promise
      }
      return send()
    }),
    get arrived() {
      return arrived
    },
    open: () => opened.resolve(),
  }
}
