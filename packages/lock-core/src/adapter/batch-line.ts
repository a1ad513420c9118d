/** Operations that leave together. They share one promise; what became of each is written on it. */
export interface BatchLine<Operation> {
  /** Sends the operation with the next statement; settles as the statement does. Read the result from the operation. */
  join(operation: Operation): Promise<void>
  /** Nothing waits and nothing is on its way. */
  readonly isIdle: boolean
  /** Resolves when nothing waits and nothing is on its way. */
  idle(): Promise<void>
}

/** How operations become statements. */
export interface BatchLineOptions<Operation> {
  /** Sends one statement for all of `batch` and writes on each operation what became of it. */
  run(batch: readonly Operation[]): Promise<void>
  /** @default 10_000 */
  maxBatch?: number | undefined
}

interface Batch<Operation> {
  readonly operations: Operation[]
  readonly sent: PromiseWithResolvers<void>
}

/**
 * What the coalescer does, for paths that run a hundred thousand times a second: there a promise, its two functions and a
 * result for each operation cost more than the operation.
 *
 * @example
 * const line = createBatchLine({ run: async (batch: { id: bigint; ok: boolean }[]) => { await unlock(batch) } })
 * const operation = { id: 42n, ok: false }
 * await line.join(operation)
 */
export function createBatchLine<Operation>(options: BatchLineOptions<Operation>): BatchLine<Operation> {
  return new OneStatementAtATime(options)
}

class OneStatementAtATime<Operation> implements BatchLine<Operation> {
  readonly #run: (batch: readonly Operation[]) => Promise<void>
  readonly #maxBatch: number
  readonly #batches: Batch<Operation>[] = []
  #state: 'idle' | 'due' | 'running' = 'idle'
  #idleWaiters: (() => void)[] = []

  constructor(options: BatchLineOptions<Operation>) {
    this.#run = options.run
    this.#maxBatch = options.maxBatch ?? 10_000
  }

  get isIdle(): boolean {
    return this.#state === 'idle'
  }

  join(operation: Operation): Promise<void> {
    let batch = this.#batches.at(-1)
    if (batch === undefined || batch.operations.length >= this.#maxBatch) {
      batch = { operations: [], sent: Promise.withResolvers() }
      this.#batches.push(batch)
    }
    batch.operations.push(operation)
    if (this.#state === 'idle') {
      this.#state = 'due'
      // A microtask, not now: callers of one Promise.all go out together, and nobody waits for a turn of the event loop.
      queueMicrotask(this.#flush)
    }
    return batch.sent.promise
  }

  idle(): Promise<void> {
    if (this.#state === 'idle') return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  readonly #flush = (): void => {
    const batch = this.#batches.shift()
    if (batch === undefined) {
      this.#state = 'idle'
      for (const resolve of this.#idleWaiters.splice(0)) resolve()
      return
    }
    this.#state = 'running'
    void this.#send(batch)
  }

  async #send({ operations, sent }: Batch<Operation>): Promise<void> {
    try {
      await this.#run(operations)
      sent.resolve()
    } catch (error) {
      sent.reject(error)
    }
    // After those who were answered: what they ask for next goes out with the next statement.
    queueMicrotask(this.#flush)
  }
}
