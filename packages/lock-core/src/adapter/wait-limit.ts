import { hasErrorCode, LockTimeoutError } from '../errors.ts'
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
  /** Of the store: until it is asked, somebody of this process is in the way. */
  #answer: 'not asked' | 'awaited' | 'given' = 'not asked'
  #ended: { readonly error: unknown } | undefined
  #controller: AbortController | null = null

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

  /** Aborts when the wait is over, with its error: for a part of the wait that knows of signals alone. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = new AbortController()
      this.#controller = controller
      const over = this.over()
      if (over === undefined) this.onOver((error) => controller.abort(error))
      else controller.abort(over.error)
    }
    return this.#controller.signal
  }

  /** Milliseconds left of the timeout; Infinity without one. */
  remainingMs(): number {
    return this.#at === Number.POSITIVE_INFINITY ? this.#at : Math.max(0, this.#at - this.#clock.now())
  }

  /**
   * For the adapter: the store is asked for the first time. Until `answered()` a timeout says that no answer came, instead
   * of blaming a holder whom nobody has seen.
   */
  asked(): void {
    if (this.#answer === 'not asked') this.#answer = 'awaited'
  }

  /** For the adapter: the store has said that somebody else has the lock. */
  answered(): void {
    this.#answer = 'given'
  }

  /** Why the wait is over: the signal's reason or a `LockTimeoutError`; undefined while it may go on. */
  over(): { readonly error: unknown } | undefined {
    if (this.#ended !== undefined) return this.#ended
    if (this.#signal?.aborted) return { error: this.#signal.reason }
    if (this.#at !== Number.POSITIVE_INFINITY && this.#clock.now() >= this.#at) {
      const { key, waitTimeoutMs } = this
      return { error: new LockTimeoutError({ key, waitTimeoutMs, answered: this.#answer !== 'awaited' }) }
    }
    return undefined
  }

  /** @throws the signal's reason untouched, or {LockTimeoutError} */
  throwIfOver(): void {
    const over = this.over()
    if (over !== undefined) throw over.error
  }

  /** The error of a part of the wait as the caller should see it: its timeout is one of the whole. */
  errorOfPart(error: unknown): unknown {
    if (!hasErrorCode(error, 'LOCK_TIMEOUT')) return error
    const { key, waitTimeoutMs } = this
    const answered = Reflect.get(error, 'answered') !== false
    return new LockTimeoutError({ key, waitTimeoutMs, answered }, { cause: error })
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
