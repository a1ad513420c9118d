import type { LockStatus } from '@x/lock-core'
import { textArray } from './array-literal.ts'
import type { HandOff } from './line/hand-off.ts'
import { type StatusRow, statusOf, unknownStatus } from './status.ts'
import type { LockStore } from './store.ts'

/** Which keys `list()` shows. */
export interface ListFilter {
  /** Keys that begin with it. */
  readonly prefix?: string | undefined
  /** Keys that this holder has. */
  readonly acquirerName?: string | undefined
  /** @default both */
  readonly isAcquired?: boolean | undefined
  /** @default 1_000 */
  readonly limit?: number | undefined
}

/** What operators do. */
export class Admin {
  readonly #store: LockStore
  readonly #handOff: HandOff

  constructor(store: LockStore, handOff: HandOff) {
    this.#store = store
    this.#handOff = handOff
  }

  async status(key: string): Promise<LockStatus> {
    const rows = await this.#list(textArray([key]), {})
    return rows[0] ?? unknownStatus(key)
  }

  list(filter: ListFilter): Promise<readonly LockStatus[]> {
    return this.#list(null, filter)
  }

  /** Takes the key away from whoever has it; true if somebody had. */
  async forceRelease(key: string, immediate: boolean): Promise<boolean> {
    const status = await this.status(key)
    if (!status.isAcquired) return false
    // A lease ends by itself; what is held without one has no other end than this.
    const endless = status.holders.some((holder) => holder.expiresAt === null)
    if (!immediate && !endless) {
      await this.#store.query(this.#store.statements.disown, [key])
      return true
    }
    const expired = await this.#store.query(this.#store.statements.expire, [key])
    await this.#handOff.check(key)
    return expired.length > 0
  }

  /** Deletes rows that have been free for longer. */
  async prune(olderThanMs: number): Promise<number> {
    const { lockTable, prune } = this.#store.statements
    return this.#store.transaction(
      async (transaction) => {
        await transaction.query(lockTable, [])
        const [row] = await transaction.query<readonly [string]>(prune, [olderThanMs])
        return Number(row?.[0] ?? 0)
      },
      { timeoutMs: 60_000 },
    )
  }

  async #list(keys: string | null, filter: ListFilter): Promise<readonly LockStatus[]> {
    const { prefix = null, acquirerName = null, isAcquired = null, limit = 1_000 } = filter
    const rows = await this.#store.query<StatusRow>(this.#store.statements.list, [
      keys,
      prefix,
      acquirerName,
      isAcquired,
      limit,
    ])
    return rows.map(statusOf)
  }
}
