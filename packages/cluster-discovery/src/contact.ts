/** What is left of an old round trip with each new one. */
const forgetting = 0.8

/**
 * How long this process has been in touch with the database without a break. A failed statement, a lost listener, or a
 * pause (SIGSTOP, a blocked event loop) breaks it.
 */
export class Contact {
  readonly #longestGapMs: number
  #since: number | null = null
  #last = Number.NEGATIVE_INFINITY
  #roundTripMs = 0

  /** @param longestGapMs between two answers; more is a break */
  constructor(longestGapMs: number) {
    this.#longestGapMs = longestGapMs
  }

  /** A statement sent at `startedAt` was answered at `now`. */
  answered(startedAt: number, now: number): void {
    this.#roundTripMs = Math.max(now - startedAt, this.#roundTripMs * forgetting)
    if (this.#since === null || now - this.#last > this.#longestGapMs) this.#since = now
    this.#last = Math.max(this.#last, now)
  }

  /** A statement failed, or a connection was lost. */
  broke(): void {
    this.#since = null
  }

  /** The slowest of the last answers, milliseconds; older ones count less and less. */
  get roundTripMs(): number {
    return this.#roundTripMs
  }

  isUnbroken(now: number): boolean {
    return this.#since !== null && now - this.#last <= this.#longestGapMs
  }

  /** Milliseconds without a break; 0 when there is none. */
  lengthMs(now: number): number {
    return this.#since !== null && this.isUnbroken(now) ? now - this.#since : 0
  }
}
