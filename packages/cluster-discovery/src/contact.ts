/**
 * How long this process has been in touch with the database without a break. A failed statement, a lost listener, or a
 * pause (SIGSTOP, a blocked event loop) breaks it.
 */
export class Contact {
  readonly #longestGapMs: number
  #since: number | null = null
  #last = Number.NEGATIVE_INFINITY

  /** @param longestGapMs between two answers; more is a break */
  constructor(longestGapMs: number) {
    this.#longestGapMs = longestGapMs
  }

  /** An answer arrived at `now`. */
  answered(now: number): void {
    if (this.#since === null || now - this.#last > this.#longestGapMs) this.#since = now
    this.#last = Math.max(this.#last, now)
  }

  /** A statement failed, or a connection was lost. */
  broke(): void {
    this.#since = null
  }

  isUnbroken(now: number): boolean {
    return this.#since !== null && now - this.#last <= this.#longestGapMs
  }

  /** Milliseconds without a break; 0 when there is none. */
  lengthMs(now: number): number {
    return this.#since !== null && this.isUnbroken(now) ? now - this.#since : 0
  }
}
