import type { Logger } from '@x/lock-core'
import { type Coalescer, createCoalescer } from '@x/lock-core/adapter'
import { plainArray, textArray } from '../array-literal.ts'
import type { LeaseName } from '../lease.ts'
import type { LockStore } from '../store.ts'

/** From the function as text, from its two statements as the driver parses them. */
type HandOffRow = readonly [
  key: string,
  released: string | boolean | null,
  sessionId: string | null,
  ticket: string | number | bigint | null,
  channel: string | null,
]

export interface HandOffSettings {
  readonly sessionId: string
  readonly claimMs: number
  readonly clockMarginMs: number
  readonly afterFailover: 'wait' | 'grant'
  readonly logger: Logger | undefined
  /** A ticket of this process was served. */
  served(ticket: string): void
}

/** Passes locks on to the heads of their lines. */
export class HandOff {
  readonly #store: LockStore
  readonly #settings: HandOffSettings
  readonly #checks: Coalescer<string, null>

  constructor(store: LockStore, settings: HandOffSettings) {
    this.#store = store
    this.#settings = settings
    this.#checks = createCoalescer({
      identityOf: (key) => key,
      run: async (keys) => {
        await this.#run(keys, null, null)
        return keys.map(() => null)
      },
    })
  }

  /** Gives these back, each to the head of its line if it has one. Resolves to the keys that were theirs to give. */
  async release(leases: readonly LeaseName[]): Promise<readonly string[]> {
    const rows = await this.#run(
      leases.map((lease) => lease.key),
      textArray(leases.map((lease) => lease.owner)),
      plainArray(leases.map((lease) => lease.token)),
    )
    return rows.filter(([, released]) => released === '1' || released === true).map(([key]) => key)
  }

  /** Looks after a key that nobody holds any more: dead waiters are passed over, the first live one gets it. */
  async check(key: string): Promise<void> {
    await this.#checks.submit(key)
  }

  /** What the function does by itself. */
  #notify(channel: string, ticket: string): void {
    this.#store.query(this.#store.statements.notify, [channel, ticket]).catch((error: unknown) => {
      this.#settings.logger?.debug({ err: error }, 'a waiter could not be notified; its poll will find the lock')
    })
  }

  async #run(keys: readonly string[], owners: string | null, tokens: string | null): Promise<readonly HandOffRow[]> {
    const nulls = plainArray(keys.map(() => null))
    const rows = await this.#store.queryLocked<HandOffRow>(
      this.#store.statements.handOff,
      [
        textArray(keys),
        owners ?? nulls,
        tokens ?? nulls,
        this.#settings.claimMs,
        this.#settings.clockMarginMs,
        this.#settings.afterFailover === 'grant',
        this.#settings.sessionId,
      ],
      { bypassPolicy: true },
    )
    for (const [, , sessionId, ticket, channel] of rows) {
      if (ticket === null) continue
      if (sessionId === this.#settings.sessionId) this.#settings.served(String(ticket))
      else if (channel !== null && this.#store.notifiesItself) this.#notify(channel, String(ticket))
    }
    return rows
  }
}
