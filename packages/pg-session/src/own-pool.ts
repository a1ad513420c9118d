import type { Logger } from '@x/lock-core'
import pg from 'pg'
import { destroyClient, goodbyeMs } from './client.ts'
import { fromPgError } from './sqlstate.ts'

/** A pool that we opened, and that ends in time whatever the line is like. */
export interface OwnPool {
  readonly pool: pg.Pool
  /** Waits for clients that are out; the others get at most a second to say goodbye. Resolves when no socket is left. */
  end(): Promise<void>
}

export function openPool(settings: pg.PoolConfig, logger: Logger | undefined): OwnPool {
  const open = new Map<pg.Client, Promise<void>>()
  const out = new Set<object>()
  // From its birth: one that hangs while it connects is known to the pool alone, which waits for it for ever.
  class RememberedClient extends pg.Client {
    constructor(config?: string | pg.ClientConfig) {
      super(config)
      const { promise, resolve } = Promise.withResolvers<void>()
      open.set(this, promise)
      this.once('end', () => {
        open.delete(this)
        resolve()
      })
      // pg-pool leaves one that failed while connecting as it is: without a password, say, the server would wait for it for
      // a minute.
      this.connection.on('error', () => destroyClient(this))
    }
  }
  const pool = new pg.Pool({
    allowExitOnIdle: true,
    // An attempt that nobody answers would keep its place in the pool for ever.
    connectionTimeoutMillis: 5_000,
    ...settings,
    Client: RememberedClient,
  })
  // An idle client that loses its connection is replaced by the pool; without a listener it would end the process.
  pool.on('error', (error) => logger?.warn({ err: fromPgError(error, 'idle connection') }, 'idle connection lost'))
  pool.on('acquire', (client) => void out.add(client))
  pool.on('release', (_error, client) => void out.delete(client))
  const destroyUnused = (): void => {
    for (const client of open.keys()) if (!out.has(client)) destroyClient(client)
  }
  return {
    pool,
    async end() {
      // Again and again: those that are out now come back later, and their lines may be dead too.
      const timer = setInterval(destroyUnused, goodbyeMs)
      try {
        await pool.end()
        await Promise.all(open.values())
      } finally {
        clearInterval(timer)
      }
    },
  }
}
