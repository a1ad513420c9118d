import type { LockMode } from '@x/lock-core'
import { type Coalescer, createCoalescer, monotonicNow } from '@x/lock-core/adapter'
import { textArray } from './array-literal.ts'
import { type LockStore, statementTimeoutMs } from './store.ts'

interface Peek {
  readonly key: string
  readonly mode: LockMode
}

/** Milliseconds for which a key that was found held is thought of as contended. */
const rememberedMs = 5_000

const mostKeys = 10_000

/**
 * Keys that were found held a moment ago. Whoever tries them again, as those who poll do, asks with a bare read first, which
 * costs a fraction of a grant that comes to nothing.
 */
export class Contention {
  readonly #store: LockStore
  readonly #clockMarginMs: number
  readonly #until = new Map<string, number>()
  readonly #peeks: Coalescer<Peek, boolean>

  constructor(store: LockStore, clockMarginMs: number) {
    this.#store = store
    this.#clockMarginMs = clockMarginMs
    this.#peeks = createCoalescer({ run: (batch) => this.#peek(batch) })
  }

  remember(key: string): void {
    if (this.#until.size >= mostKeys) this.#until.clear()
    this.#until.set(key, monotonicNow() + rememberedMs)
  }

  /** Whether the key was found held lately. */
  remembers(key: string): boolean {
    return this.#until.has(key)
  }

  /** Whether the key was held lately and still is; nothing is asked for a key that was not. */
  async isHeld(key: string, mode: LockMode): Promise<boolean> {
    const until = this.#until.get(key)
    if (until === undefined) return false
    if (monotonicNow() < until && (await this.#peeks.submit({ key, mode }))) return true
    this.#until.delete(key)
    return false
  }

  async #peek(batch: readonly Peek[]): Promise<readonly boolean[]> {
    const [alone] = batch
    if (alone !== undefined && batch.length === 1) return [await this.#peekOne(alone)]
    const rows = await this.#store.query<readonly [key: string, joinable: string]>(
      this.#store.statements.peek,
      [textArray(batch.map(({ key }) => key)), this.#clockMarginMs],
      { timeoutMs: statementTimeoutMs },
    )
    const held = new Map(rows)
    return batch.map(({ key, mode }) => keepsOut(mode, held.get(key)))
  }

  async #peekOne({ key, mode }: Peek): Promise<boolean> {
    const { peekOne } = this.#store.statements
    const limits = { timeoutMs: statementTimeoutMs }
    const [row] = await this.#store.query<readonly [joinable: string]>(peekOne, [key, this.#clockMarginMs], limits)
    return keepsOut(mode, row?.[0])
  }
}

const keepsOut = (mode: LockMode, joinable: string | undefined): boolean =>
  joinable === '0' || (joinable === '1' && mode === 'exclusive')
