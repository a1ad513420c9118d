import type { LockMode } from '@x/lock-core'
import { type BatchLine, createBatchLine, monotonicNow } from '@x/lock-core/adapter'
import { textArray } from './array-literal.ts'
import { isTransient, type LockStore } from './store.ts'

interface Peek {
  readonly key: string
  /** What the row says; undefined when nobody holds the key. */
  joinable: string | undefined
}

/** Milliseconds for which a key that was found held is thought of as contended. */
const rememberedMs = 5_000

/** Milliseconds for a look: without its answer there is time for the statement that knows more. */
const lookMs = 1_500

const mostKeys = 10_000

/**
 * Keys that were found held a moment ago. Whoever tries them again, as those who poll do, asks with a bare read first, which
 * costs a fraction of a grant that comes to nothing.
 */
export class Contention {
  readonly #store: LockStore
  readonly #clockMarginMs: number
  readonly #until = new Map<string, number>()
  readonly #looks: BatchLine<Peek>

  constructor(store: LockStore, clockMarginMs: number) {
    this.#store = store
    this.#clockMarginMs = clockMarginMs
    this.#looks = createBatchLine({ run: (batch) => this.#look(batch) })
  }

  remember(key: string): void {
    if (this.#until.size >= mostKeys) this.#until.clear()
    this.#until.set(key, monotonicNow() + rememberedMs)
  }

  /** Whether the key was found held lately. */
  remembers(key: string): boolean {
    return this.#until.has(key)
  }

  /** Whether the key was held lately and still is; nothing is asked for a key that was not. False when no answer came. */
  async isHeld(key: string, mode: LockMode): Promise<boolean> {
    const until = this.#until.get(key)
    if (until === undefined) return false
    if (monotonicNow() < until) {
      const peek: Peek = { key, joinable: undefined }
      try {
        await this.#looks.join(peek)
      } catch (error) {
        if (!isTransient(error)) throw error
      }
      if (peek.joinable === '0' || (peek.joinable === '1' && mode === 'exclusive')) return true
    }
    this.#until.delete(key)
    return false
  }

  /** Resolves when no look is on its way. */
  idle(): Promise<void> {
    return this.#looks.idle()
  }

  async #look(batch: readonly Peek[]): Promise<void> {
    const { peek, peekOne } = this.#store.statements
    const limits = { timeoutMs: lookMs }
    const [alone] = batch
    if (alone !== undefined && batch.length === 1) {
      const values = [alone.key, this.#clockMarginMs]
      const [row] = await this.#store.query<readonly [joinable: string]>(peekOne, values, limits)
      alone.joinable = row?.[0]
      return
    }
    const values = [textArray(batch.map(({ key }) => key)), this.#clockMarginMs]
    const held = new Map(await this.#store.query<readonly [key: string, joinable: string]>(peek, values, limits))
    for (const one of batch) one.joinable = held.get(one.key)
  }
}
