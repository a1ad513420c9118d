import { UnsupportedError } from '@x/lock-core'

/**
 * How many locks this locker may have in the server's lock table, interest included. The table is shared by everything
 * on the server and has a fixed size: when it is full, even CREATE TABLE fails in sessions that have nothing to do with us.
 */
export class SharedMemoryBudget {
  readonly #maxLocks: number | undefined
  #slots = Number.POSITIVE_INFINITY
  #used = 0

  /** @param maxLocks the caller's own limit; undefined = a quarter of the server's slots */
  constructor(maxLocks: number | undefined) {
    this.#maxLocks = maxLocks
  }

  /** @param slots max_locks_per_transaction × (max_connections + max_prepared_transactions) */
  learn(slots: number): void {
    this.#slots = slots
  }

  get used(): number {
    return this.#used
  }

  get limit(): number {
    return this.#maxLocks ?? Math.floor(this.#slots / 4)
  }

  /** Whether there is room for one more, which is then taken. */
  tryTake(): boolean {
    if (this.#used >= this.limit) return false
    this.#used += 1
    return true
  }

  /** @throws {UnsupportedError} when there is no room */
  take(): void {
    if (this.tryTake()) return
    throw new UnsupportedError(
      this.#maxLocks === undefined
        ? `this locker has ${this.#used} advisory locks, a quarter of the ${this.#slots} slots of the server's lock table; raise max_locks_per_transaction on the server, or set maxLocks if the server is yours alone`
        : `this locker has ${this.#used} advisory locks, which is its limit; raise maxLocks, but leave most of the ${this.#slots} slots of the server's lock table to others`,
    )
  }

  give(): void {
    this.#used -= 1
  }
}
