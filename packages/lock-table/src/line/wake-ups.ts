import type { DirectConnection, Logger, PgPool } from '@x/lock-core'
import { channelName, connectionSource, createListener, type Listener } from '@x/pg-session'
import type { WakeUps } from './line.ts'

export interface ListeningOptions {
  /** Null: polling alone. Undefined: as the statements. */
  readonly listen: DirectConnection | null | undefined
  readonly pool: PgPool | undefined
  readonly connectionString: string | undefined
  /** Unique to this process. */
  readonly name: string
  readonly logger: Logger | undefined
  /** A ticket of ours was served. */
  wake(ticket: string): void
  /** Something may have been missed. */
  resync(): void
}

/** One connection for LISTEN, opened when this process waits for the first time; polling alone where it cannot be had. */
export class Listening implements WakeUps {
  readonly #options: ListeningOptions
  readonly #channel: string
  #listener: Listener | null = null
  #hears = false

  constructor(options: ListeningOptions) {
    this.#options = options
    this.#channel = channelName(options.name)
  }

  get channel(): string | null {
    return this.#hears ? this.#channel : null
  }

  start(): void {
    const { listen, pool, connectionString, logger } = this.#options
    if (listen === null || this.#listener !== null) return
    const source = connectionSource(
      listen === undefined ? { pool, connectionString } : { connection: listen },
      'createTableLocker',
    )
    this.#listener = createListener({
      source,
      applicationName: 'lock-table',
      logger,
      onNotification: (_channel, payload) => this.#options.wake(payload),
      onResync: () => {
        this.#hears = true
        this.#options.resync()
      },
      onStateChange: (state) => {
        if (state.status !== 'listening') this.#hears = false
      },
    })
    // Whoever waits keeps the process by his poll; to listen for nobody is no reason to live.
    this.#listener.keepProcess(false)
    this.#listener.listen(this.#channel).catch((error: unknown) => {
      // A pooler, or a database without LISTEN: the line is served all the same, at the pace of the poll.
      logger?.info({ err: error }, 'nothing can be heard on this connection; waiters poll')
    })
  }

  async close(): Promise<void> {
    await this.#listener?.close()
  }
}
