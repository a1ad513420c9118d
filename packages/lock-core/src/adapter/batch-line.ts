/** Operations that leave together. They share one promise; what became of each is written on it. */
export interface BatchLine<Operation> {
  /** Sends the operation with the next statement; settles as the statement does. Read the result from the operation. */
  join(operation: Operation): Promise<void>
  /** Operations that wait for a statement to leave. */
  readonly queued: number
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
  /**
   * Operations with one identity never share a statement and keep their order: the second waits for the first to be over.
   * @default no two operations are related
   */
  identityOf?: ((operation: Operation) => string) | undefined
}

interface Batch<Operation> {
  readonly number: number
  readonly operations: Operation[]
  readonly sent: PromiseWithResolvers<void>
}

/**
 * Makes one statement of all operations that are issued while another statement is in flight. One operation alone goes
 * out in the same turn of the event loop, so that a single caller pays a bare round trip; a thousand callers pay two.
 * For paths that run a hundred thousand times a second: a promise and a result for each operation, as
 * {@link createCoalescer} gives on top of this, cost more there than the operation.
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
  readonly #identityOf: ((operation: Operation) => string) | undefined
  /** Those that have not left yet, by number; only where there is a limit or an identity in the way more than one. */
  readonly #batches: Batch<Operation>[] = []
  /** By identity, the number of the last batch that has it. */
  readonly #lastWith = new Map<string, number>()
  #nextNumber = 0
  #state: 'idle' | 'due' | 'running' = 'idle'
  #idleWaiters: (() => void)[] = []

  constructor(options: BatchLineOptions<Operation>) {
    this.#run = options.run
    this.#maxBatch = options.maxBatch ?? 10_000
    this.#identityOf = options.identityOf
  }

  get queued(): number {
    return this.#batches.reduce((sum, { operations }) => sum + operations.length, 0)
  }

  get isIdle(): boolean {
    return this.#state === 'idle'
  }

  join(operation: Operation): Promise<void> {
    const batch = this.#identityOf === undefined ? this.#withRoom(0) : this.#after(this.#identityOf(operation))
    batch.operations.push(operation)
    if (this.#state === 'idle') {
      this.#state = 'due'
      this.#flushSoon()
    }
    return batch.sent.promise
  }

  idle(): Promise<void> {
    if (this.#state === 'idle') return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  /** The first batch with room that comes after the last one with this identity. */
  #after(identity: string): Batch<Operation> {
    const first = this.#batches[0]?.number ?? this.#nextNumber
    const batch = this.#withRoom(Math.max(0, (this.#lastWith.get(identity) ?? -1) + 1 - first))
    this.#lastWith.set(identity, batch.number)
    return batch
  }

  #withRoom(from: number): Batch<Operation> {
    for (let index = from; index < this.#batches.length; index += 1) {
      const batch = this.#batches[index]
      if (batch !== undefined && batch.operations.length < this.#maxBatch) return batch
    }
    const fresh: Batch<Operation> = { number: this.#nextNumber, operations: [], sent: Promise.withResolvers() }
    this.#nextNumber += 1
    this.#batches.push(fresh)
    return fresh
  }

  /**
   * When all promise jobs of this turn are done, not now: callers of one Promise.all go out together, and so does what
   * those ask for next who have just been answered, through however many promises. Nobody waits for a turn of the event loop.
   */
  #flushSoon(): void {
    queueMicrotask(() => process.nextTick(this.#flush))
  }

  readonly #flush = (): void => {
    const batch = this.#batches.shift()
    if (batch === undefined) {
      this.#state = 'idle'
      for (const resolve of this.#idleWaiters.splice(0)) resolve()
      return
    }
    if (this.#identityOf !== undefined) {
      for (const operation of batch.operations) {
        const identity = this.#identityOf(operation)
        if (this.#lastWith.get(identity) === batch.number) this.#lastWith.delete(identity)
      }
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
    this.#flushSoon()
  }
}
