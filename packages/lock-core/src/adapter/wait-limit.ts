import { LockTimeoutError } from '../errors.ts'
import type { Unsubscribe } from '../observability.ts'
import { type Clock, systemClock, type Timer } from './clock.ts'

/**
 * How long one `acquire` may wait, whatever it waits for on the way: until its timeout or the caller's signal, whichever
 * comes first. Costs nothing when there is neither. Dispose of it when the wait is over.
 *
 * @example
 * using limit = new WaitLimit({ key, waitTimeoutMs: 1_000, signal })
 * limit.throwIfOver()
 * await limit.race(granted)
 */
export class WaitLimit implements Disposable {
  readonly key: string
  readonly waitTimeoutMs: number
  readonly #at: number
  readonly #clock: Clock
  readonly #signal: AbortSignal | undefined
  readonly #listeners = new Set<(error: unknown) => void>()
  #timer: Timer | null = null
  #listening = false
  #ended: { readonly error: unknown } | undefined

  constructor(
    options: { key: string; waitTimeoutMs?: number | undefined; signal?: AbortSignal | undefined },
    clock: Clock = systemClock,
  ) {
    this.key = options.key
    this.waitTimeoutMs = options.waitTimeoutMs ?? Number.POSITIVE_INFINITY
    this.#signal = options.signal
    this.#clock = clock
    this.#at = this.waitTimeoutMs === Number.POSITIVE_INFINITY ? this.waitTimeoutMs : clock.now() + this.waitTimeoutMs
  }

  /** Milliseconds left of the timeout; Infinity without one. */
  remainingMs(): number {
    return this.#at === Number.POSITIVE_INFINITY ? this.#at : Math.max(0, this.#at - this.#clock.now())
  }

  /** Why the wait is over: the signal's reason or a `LockTimeoutError`; undefined while it may go on. */
  over(): { readonly error: unknown } | undefined {
    if (this.#ended !== undefined) return this.#ended
    if (this.#signal?.aborted) return { error: this.#signal.reason }
    if (this.#at !== Number.POSITIVE_INFINITY && this.#clock.now() >= this.#at) {
      return { error: new LockTimeoutError({ key: this.key, waitTimeoutMs: this.waitTimeoutMs }) }
    }
    return undefined
  }

  /** @throws the signal's reason untouched, or {LockTimeoutError} */
  throwIfOver(): void {
    const over = this.over()
    if (over !== undefined) throw over.error
  }

  /** Calls `listener` at most once, when the wait is over; not when it already is: ask `over()` first. */
  onOver(listener: (error: unknown) => void): Unsubscribe {
    this.#listeners.add(listener)
    if (!this.#listening) {
      this.#listening = true
      this.#signal?.addEventListener('abort', this.#wake, { once: true })
      if (this.#at !== Number.POSITIVE_INFINITY) this.#schedule()
    }
    return () => this.#listeners.delete(listener)
  }

  /** Ends the wait from outside, as `close()` does. */
  end(error: unknown): void {
    if (this.over() !== undefined) return
    this.#ended = { error }
    this.#wake()
  }

  /** Settles as `promise` does, or rejects when the wait is over. What the promise brings later is the caller's to undo. */
  race<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const over = this.over()
      if (over !== undefined) {
        promise.catch(() => {})
        reject(over.error)
        return
      }
      const stop = this.onOver(reject)
      promise.then(resolve, reject).finally(stop)
    })
  }

  [Symbol.dispose](): void {
    this.#listeners.clear()
    this.#timer?.cancel()
    this.#signal?.removeEventListener('abort', this.#wake)
  }

  /** Somebody waits for this timer: it keeps the process alive. */
  #schedule(): void {
    this.#timer = this.#clock.schedule(this.#wake, this.remainingMs(), { keepAlive: true })
  }

  readonly #wake = (): void => {
    const over = this.over()
    if (over === undefined) {
      this.#schedule()
      return
    }
    const listeners = [...this.#listeners]
    this[Symbol.dispose]()
    for (const listener of listeners) listener(over.error)
  }
}
