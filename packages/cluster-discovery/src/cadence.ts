import type { Clock, Timer } from '@x/lock-core/adapter'

export interface CadenceOptions {
  readonly clock: Clock
  /** Share of the interval by which it varies either way, so that many processes do not fall into step. */
  readonly jitter: number
  readonly random: () => number
  /** What to do; must not reject. */
  readonly run: () => Promise<void>
  /** How many runs may overlap: a slow answer must not delay the next beat. @default 1 */
  readonly overlap?: number
}

/** Something done again and again, until stopped. Owns its one timer. */
export class Cadence {
  readonly #options: CadenceOptions
  readonly #everyMs: number
  #timer: Timer | null = null
  #due = Number.POSITIVE_INFINITY
  readonly #running = new Set<Promise<void>>()
  #missed = false
  #stopped = true

  constructor(everyMs: number, options: CadenceOptions) {
    this.#everyMs = everyMs
    this.#options = options
  }

  /** @param delayMs until the first run @default one interval */
  start(delayMs: number = this.#next()): void {
    this.#stopped = false
    this.#schedule(delayMs)
  }

  /** Runs within `delayMs`; the interval starts anew afterwards. Nothing when stopped. */
  soon(delayMs = 0): void {
    if (!this.#stopped && this.#options.clock.now() + delayMs < this.#due) this.#schedule(delayMs)
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#missed = false
    this.#timer?.cancel()
    this.#due = Number.POSITIVE_INFINITY
    await Promise.all(this.#running)
  }

  readonly #tick = (): void => {
    this.#schedule(this.#next())
    if (this.#running.size >= (this.#options.overlap ?? 1)) {
      this.#missed = true
      return
    }
    const run = this.#options.run().finally(() => {
      this.#running.delete(run)
      if (!this.#missed) return
      this.#missed = false
      this.soon()
    })
    this.#running.add(run)
  }

  #next(): number {
    const { jitter, random } = this.#options
    return this.#everyMs * (1 + jitter * (2 * random() - 1))
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    if (this.#stopped) return
    this.#due = this.#options.clock.now() + delayMs
    this.#timer = this.#options.clock.schedule(this.#tick, delayMs)
  }
}
