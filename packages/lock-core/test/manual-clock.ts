import type { Clock, Timer } from '../src/adapter/clock.ts'

/** A clock that stands still until it is told to go on. */
export class ManualClock implements Clock {
  #now = 1_000
  readonly #timers = new Set<{ at: number; fn: () => void }>()

  now(): number {
    return this.#now
  }

  schedule(fn: () => void, delayMs: number): Timer {
    const timer = { at: this.#now + delayMs, fn }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Timers that were neither cancelled nor fired. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves time and fires what is due, in order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).toSorted((one, other) => one.at - other.at)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.fn()
    }
    this.#now = end
  }

  /** Moves time without firing anything, as a blocked event loop or a stopped process does. */
  block(ms: number): void {
    this.#now += ms
  }
}
