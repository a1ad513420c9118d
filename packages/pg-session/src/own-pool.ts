import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'

/** How long the server may take to hang up after our goodbye, milliseconds. */
const goodbyeMs = 1_000

/**
 * A pool that we opened. `pg` says goodbye and then waits for the server to hang up; behind a half-open line that never
 * happens, and whoever closes a locker would wait for ever. So after a second the sockets are closed on this side.
 */
export class OwnPool {
  readonly pool: pg.Pool
  readonly #clients = new Set<pg.PoolClient>()

  constructor(config: pg.PoolConfig) {
    this.pool = new pg.Pool(config)
    this.pool.on('connect', (client) => this.#clients.add(client))
  }

  async end(): Promise<void> {
    const clients = [...this.#clients]
    const gone = Promise.all(clients.map((client) => new Promise((resolve) => client.once('end', resolve))))
    void gone
    await this.pool.end()
  }
}
