import type { Logger } from '@x/lock-core'
import { monotonicNow, systemClock, type WaitLimit } from '@x/lock-core/adapter'
import type { LockStore } from './store.ts'

/** After a failure to grant what is free: did the server fail over, and for how long does everybody wait because of it? */
export class Failover {
  readonly #store: LockStore
  readonly #settings: {
    readonly pollMs: number
    readonly afterFailover: 'wait' | 'grant'
    readonly logger: Logger | undefined
  }
  #quietUntil = Number.NEGATIVE_INFINITY
  #look: Promise<number> | null = null

  constructor(
    store: LockStore,
    settings: {
      readonly pollMs: number
      readonly afterFailover: 'wait' | 'grant'
      readonly logger: Logger | undefined
    },
  ) {
    this.#store = store
    this.#settings = settings
  }

  /** Milliseconds for which nothing is granted. */
  async quietMs(): Promise<number> {
    this.#look ??= this.#observe().finally(() => {
      this.#look = null
    })
    return this.#look
  }

  /** Waits until grants may be had again, a poll at most. */
  async pause(limit: WaitLimit): Promise<void> {
    const delayMs = Math.min(Math.max(this.#quietUntil - monotonicNow(), 0) + 5, this.#settings.pollMs)
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = systemClock.schedule(resolve, delayMs * (0.8 + Math.random() * 0.4), { keepAlive: true })
    try {
      await limit.race(promise)
    } finally {
      timer.cancel()
    }
  }

  async #observe(): Promise<number> {
    const [row] = await this.#store.query<readonly [string]>(this.#store.statements.observe, [])
    const quietMs = Number(row?.[0] ?? 0)
    this.#quietUntil = monotonicNow() + quietMs
    if (quietMs > 0) {
      this.#settings.logger?.warn(
        { quietMs },
        'the server failed over: nothing is granted until its lost grants are over',
      )
    }
    return this.#settings.afterFailover === 'grant' ? 0 : quietMs
  }
}
