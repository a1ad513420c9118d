import { monotonicNow } from '@x/lock-core/adapter'
import type { LockStore } from '../store.ts'

/** A process that has not been heard of for this many polls is passed over, but never sooner than five seconds. */
const livesForPolls = 5
const livesForAtLeastMs = 5_000

/** The row that says that this process waits and lives: one heartbeat for all its places in line. */
export class Presence {
  readonly #store: LockStore
  readonly #sessionId: string
  readonly #livesForMs: number
  /** Where this process listens now; null when it polls. */
  readonly #channel: () => string | null
  #livesUntil = Number.NEGATIVE_INFINITY
  #announced: string | null = null
  #known = false

  constructor(store: LockStore, settings: { sessionId: string; pollMs: number; channel: () => string | null }) {
    this.#store = store
    this.#sessionId = settings.sessionId
    this.#livesForMs = Math.max(livesForAtLeastMs, settings.pollMs * livesForPolls)
    this.#channel = settings.channel
  }

  /** Others know where to wake this process. */
  get isAnnounced(): boolean {
    return this.#channel() === this.#announced
  }

  /** There is a row to take away. */
  get isKnown(): boolean {
    return this.#known
  }

  /** Makes sure that the session lives for a poll and more: a ticket of a dead session would be passed over. */
  async assure(): Promise<void> {
    if (monotonicNow() < this.#livesUntil - this.#livesForMs / 2) return
    await this.beat()
  }

  async beat(): Promise<void> {
    const startedAt = monotonicNow()
    const channel = this.#channel()
    this.#known = true
    const values = [this.#sessionId, channel, this.#livesForMs]
    await this.#store.query(this.#store.statements.beat, values, { bypassPolicy: true })
    this.#livesUntil = startedAt + this.#livesForMs
    this.#announced = channel
  }

  /** What was announced may be wrong by now: the next who enters a line says it again. */
  doubt(): void {
    this.#livesUntil = Number.NEGATIVE_INFINITY
  }
}
