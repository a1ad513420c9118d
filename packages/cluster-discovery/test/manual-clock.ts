import { setImmediate as turn } from 'node:timers/promises'
import type { Clock, Timer } from '@x/lock-core/adapter'

/** Time that passes when the test says so. */
export class ManualClock implements Clock {
  #now = 0
  readonly #timers = new Set<{ readonly at: number; readonly fn: () => void }>()

  now(): number {
    return this.#now
  }

  schedule(fn: () => void, delayMs: number): Timer {
    const timer = { at: this.#now + delayMs, fn }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  get scheduled(): number {
    return this.#timers.size
  }

  /** Lets `ms` pass; timers fire in their order, and what they resolve runs before the next one. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms
    for (;;) {
      await turn()
      const next = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.fn()
    }
    this.#now = until
  }
}
