import { type ResolvedAcquireOptions, WaitLimit } from '@x/lock-core/adapter'

/** What somebody wants, who may give up on it. */
export interface Wanted {
  readonly keys: readonly string[]
  /** The ids of the keys. */
  readonly ids: readonly string[]
  readonly options: ResolvedAcquireOptions
}

/**
 * Lets go at once whoever gives up, whatever is being done for him then. A statement of his may still be on its way: what
 * it brings is given back, since nobody was told that he holds it.
 */
export class GivingUp {
  readonly #running = new Map<WaitLimit, readonly string[]>()
  /** By id: resolves when nothing is left of one who gave up. */
  readonly #leftovers = new Map<string, Promise<void>>()
  readonly #onEnd: () => void

  /** @param onEnd called when somebody is not waited for any more */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  /** Whether nobody is waited for. */
  get isIdle(): boolean {
    return this.#running.size === 0
  }

  /** The keys of all who wait. */
  *keys(): IterableIterator<string> {
    for (const keys of this.#running.values()) yield* keys
  }

  /** Resolves when what somebody left under the id, who gave up, is given back; undefined when there is nothing. */
  leftovers(id: string): Promise<void> | undefined {
    return this.#leftovers.get(id)
  }

  /** Ends all that is waited for. */
  end(error: unknown): void {
    for (const limit of [...this.#running.keys()]) limit.end(error)
  }

  /**
   * Settles as `run` does, or rejects when the caller's limit is over.
   * @param giveBack undoes what `run` brings afterwards
   */
  async limited<T>(
    { keys, ids, options }: Wanted,
    run: (limit: WaitLimit) => Promise<T>,
    giveBack: (late: T) => unknown,
  ): Promise<T> {
    // One attempt ends by itself; a limit of 0 would be over before it.
    const waitTimeoutMs = options.waitTimeoutMs === 0 ? Number.POSITIVE_INFINITY : options.waitTimeoutMs
    const limit = new WaitLimit({ key: keys.join(', '), waitTimeoutMs, signal: options.signal })
    this.#running.set(limit, keys)
    try {
      return await new Promise<T>((resolve, reject) => {
        let open = true
        const running = run(limit)
        const letGo = (error: unknown): void => {
          open = false
          reject(error)
          const late = running.then(giveBack, () => {})
          for (const id of ids) this.#note(id, late)
        }
        const over = limit.over()
        const stop = limit.onOver(letGo)
        if (over !== undefined) letGo(over.error)
        running.then(
          (result) => {
            // Whoever has the lock keeps it, even if his signal aborts before his own code runs again.
            stop()
            if (open) resolve(result)
          },
          (error: unknown) => reject(error),
        )
      })
    } finally {
      this.#running.delete(limit)
      limit[Symbol.dispose]()
      this.#onEnd()
    }
  }

  #note(id: string, late: Promise<unknown>): void {
    const leftovers = Promise.allSettled([late, this.#leftovers.get(id)]).then(() => {})
    this.#leftovers.set(id, leftovers)
    void leftovers.finally(() => {
      if (this.#leftovers.get(id) === leftovers) this.#leftovers.delete(id)
    })
  }
}
