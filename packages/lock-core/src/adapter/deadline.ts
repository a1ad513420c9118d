import { type Clock, systemClock } from './clock.ts'

/**
 * How long a belief may be held. Count it from *before* the request that establishes it: the store's own clock starts
 * later, so the belief ends first (River's `trustedUntil`; Gray and Cheriton, "Leases", SOSP 1989).
 *
 * @example
 * const startedAt = monotonicNow()
 * const granted = await store.renew(30_000)
 * const deadline = Deadline.after(30_000, startedAt)
 */
export class Deadline {
  /** The instant on the clock's line; Infinity for never. */
  readonly at: number
  readonly #clock: Clock

  constructor(at: number, clock: Clock = systemClock) {
    this.at = at
    this.#clock = clock
  }

  /**
   * @param ms milliseconds; Infinity for never
   * @param startedAt instant on the clock's line
   * @default startedAt now
   */
  static after(ms: number, startedAt?: number, clock: Clock = systemClock): Deadline {
    return new Deadline((startedAt ?? clock.now()) + ms, clock)
  }

  /** A deadline that never passes. */
  static never(clock: Clock = systemClock): Deadline {
    return new Deadline(Number.POSITIVE_INFINITY, clock)
  }

  /** Milliseconds left, never below 0. */
  remainingMs(): number {
    return this.at === Number.POSITIVE_INFINITY ? this.at : Math.max(0, this.at - this.#clock.now())
  }

  /** True from the instant itself on. */
  hasPassed(): boolean {
    return this.at !== Number.POSITIVE_INFINITY && this.#clock.now() >= this.at
  }
}
