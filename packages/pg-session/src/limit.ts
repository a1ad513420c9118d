import { monotonicNow } from '@x/lock-core/adapter'

/** The longest that setTimeout knows: 2^31 - 1 milliseconds, nearly 25 days. */
const longestMs = 2_147_483_647

export interface LimitOptions {
  /** For messages, such as `statement lock_grant`. */
  readonly what: string
  /** Milliseconds; Infinity for no limit. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** What is waited for, and how it is told that it takes too long. */
interface Step {
  readonly reject: (error: unknown) => void
  readonly late: () => Error
}

/**
 * How long a call may take, with all that it waits for on its way: a client of the pool, each statement. One timer does for
 * all of it, because every statement of every package passes here. End it when the call is over.
 */
export class Limit {
  readonly what: string
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  /** Instant of `monotonicNow()`. */
  readonly expiresAt: number
  readonly #steps = new Set<Step>()
  #timer: NodeJS.Timeout | null = null
  #isListening = false

  constructor({ what, timeoutMs, signal }: LimitOptions, expiresAt: number = monotonicNow() + timeoutMs) {
    this.what = what
    this.timeoutMs = timeoutMs
    this.signal = signal
    this.expiresAt = expiresAt
  }

  /**
   * Waits for what `start` begins, unless the limit comes first.
   * @param start `resolve` gives false when nobody waits any more: what it brings is then `start`'s to put away
   * @throws the signal's reason, or what `late` gives
   */
  wait<T>(
    start: (resolve: (value: T) => boolean, reject: (error: unknown) => void) => void,
    late: () => Error,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      this.signal?.throwIfAborted()
      const step: Step = { reject, late }
      this.#steps.add(step)
      this.#watch()
      start(
        (value) => {
          if (!this.#steps.delete(step)) return false
          resolve(value)
          return true
        },
        (error) => {
          if (this.#steps.delete(step)) reject(error)
        },
      )
    })
  }

  /** Nothing of it is left behind, on the clock or on the signal. */
  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#isListening) this.signal?.removeEventListener('abort', this.#abort)
    this.#isListening = false
  }

  #watch(): void {
    if (this.#timer === null && this.expiresAt !== Number.POSITIVE_INFINITY) {
      const remainingMs = Math.max(this.expiresAt - monotonicNow(), 0)
      this.#timer = setTimeout(this.#expire, Math.min(remainingMs, longestMs))
    }
    if (!this.#isListening && this.signal !== undefined) {
      this.#isListening = true
      this.signal.addEventListener('abort', this.#abort, { once: true })
    }
  }

  readonly #expire = (): void => {
    this.#timer = null
    this.#giveUp(({ late }) => late())
  }

  readonly #abort = (): void => {
    this.#isListening = false
    this.#giveUp(() => this.signal?.reason)
  }

  #giveUp(why: (step: Step) => unknown): void {
    const steps = [...this.#steps]
    this.#steps.clear()
    for (const step of steps) step.reject(why(step))
  }
}
