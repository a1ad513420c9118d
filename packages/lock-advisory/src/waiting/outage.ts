const longestBackoffMs = 5_000

/**
 * What the waiters of a locker know of a server that cannot be reached. They look for it at the same moments, so that it is
 * one attempt to connect, however many they are: each at a time of his own, they would keep a starting server from its work.
 */
export class Outage {
  readonly #now: () => number
  readonly #random: () => number
  #failures = 0
  #until = Number.NEGATIVE_INFINITY

  /** @param now milliseconds on a line that never steps back */
  constructor(now: () => number, random: () => number = Math.random) {
    this.#now = now
    this.#random = random
  }

  /** Milliseconds until the next attempt; 0 = now. */
  pauseMs(): number {
    return Math.max(0, this.#until - this.#now())
  }

  /** An attempt failed. Those who shared it say the same, which counts once. */
  failed(): void {
    const now = this.#now()
    if (now < this.#until) return
    this.#failures += 1
    this.#until = now + Math.min(50 * 2 ** this.#failures, longestBackoffMs) * (0.5 + this.#random() / 2)
  }

  /** There is a session: the next failure is the first one again. */
  end(): void {
    this.#failures = 0
    this.#until = Number.NEGATIVE_INFINITY
  }
}
