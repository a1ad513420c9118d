import type { Lock } from '@x/lock-core'
import { WaitLimit } from '@x/lock-core/adapter'
import { atMost } from './at-most.ts'

/** Milliseconds for which a wait that is over goes on to give up its place in line; a round trip, as a rule. */
const politeMs = 250

/** The acquires that wait, and those whose caller has given up while something of theirs may be left in the database. */
export class Waits {
  readonly #limits = new Set<WaitLimit>()
  readonly #underway = new Set<Promise<void>>()

  /** Ends when the caller's patience does. A lock that comes later than that is given back unseen. */
  async within<T extends Lock | readonly Lock[] | null>(
    patience: { readonly key: string; readonly waitTimeoutMs: number; readonly signal: AbortSignal | undefined },
    fn: (limit: WaitLimit) => Promise<T>,
  ): Promise<T> {
    const limit = new WaitLimit(patience)
    this.#limits.add(limit)
    const granted = fn(limit)
    let gaveUp = false
    const settled: Promise<void> = granted
      .then(async (late) => {
        if (gaveUp && late !== null) for (const lock of [late].flat()) await lock[Symbol.asyncDispose]()
      })
      .catch(() => {})
      .finally(() => this.#underway.delete(settled))
    this.#underway.add(settled)
    try {
      return await limit.race(granted)
    } catch (error) {
      gaveUp = true
      // Whoever hears that the wait is over may count on the place being free; but not wait for a database that is silent.
      await atMost(settled, politeMs)
      throw error
    } finally {
      this.#limits.delete(limit)
      limit[Symbol.dispose]()
    }
  }

  /** Ends every wait with the error. */
  end(error: unknown): void {
    for (const limit of [...this.#limits]) limit.end(error)
  }

  /** Resolves when nothing of those who waited is left. */
  async idle(): Promise<void> {
    while (this.#underway.size > 0) await Promise.all(this.#underway)
  }
}
