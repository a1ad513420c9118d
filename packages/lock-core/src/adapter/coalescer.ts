/** Collects operations into statements. */
export interface Coalescer<Operation, Result> {
  /** Sends the operation with the next statement; settles with its own result. */
  submit(operation: Operation): Promise<Result>
  /** Operations that wait for a statement to leave. */
  readonly queued: number
  /** Statements on their way. */
  readonly inFlight: number
  /** Resolves when nothing is queued and nothing is in flight. */
  idle(): Promise<void>
}

/** How operations become statements. */
export interface CoalescerOptions<Operation, Result> {
  /**
   * Sends one statement for all of `batch` and resolves to one result per operation, in their order. A rejection rejects
   * every operation of the batch; an outcome that is one operation's own belongs into its result.
   */
  run(batch: readonly Operation[]): Promise<readonly Result[]>
  /** @default 10_000 */
  maxBatch?: number | undefined
  /**
   * Operations with one identity never share a statement and keep their order: the second waits for the first to be over.
   * @default no two operations are related
   */
  identityOf?: ((operation: Operation) => string) | undefined
}

interface Pending<Operation, Result> {
  readonly operation: Operation
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
}

/**
 * Makes one statement of all operations that are issued while another statement is in flight. One operation alone goes
 * out in the same turn of the event loop, so that a single caller pays a bare round trip; a thousand callers pay two.
 *
 * @example
 * const unlocks = createCoalescer({ run: (ids: readonly bigint[]) => session.unlock(ids) })
 * await unlocks.submit(42n)
 */
export function createCoalescer<Operation, Result>(
  options: CoalescerOptions<Operation, Result>,
): Coalescer<Operation, Result> {
  return new OneInFlight(options)
}

class OneInFlight<Operation, Result> implements Coalescer<Operation, Result> {
  readonly #run: (batch: readonly Operation[]) => Promise<readonly Result[]>
  readonly #maxBatch: number
  readonly #identityOf: ((operation: Operation) => string) | undefined
  #queue: Pending<Operation, Result>[] = []
  #state: 'idle' | 'due' | 'running' = 'idle'
  #idleWaiters: (() => void)[] = []

  constructor(options: CoalescerOptions<Operation, Result>) {
    this.#run = options.run
    this.#maxBatch = options.maxBatch ?? 10_000
    this.#identityOf = options.identityOf
  }

  get queued(): number {
    return this.#queue.length
  }

  get inFlight(): number {
    return this.#state === 'running' ? 1 : 0
  }

  submit(operation: Operation): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ operation, resolve, reject })
      if (this.#state === 'idle') {
        this.#state = 'due'
        // A microtask, not now: callers of one Promise.all go out together, and nobody waits for a turn of the event loop.
        queueMicrotask(this.#flush)
      }
    })
  }

  idle(): Promise<void> {
    if (this.#state === 'idle') return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  readonly #flush = (): void => {
    const batch = this.#take()
    if (batch.length === 0) {
      this.#state = 'idle'
      const waiters = this.#idleWaiters
      this.#idleWaiters = []
      for (const resolve of waiters) resolve()
      return
    }
    this.#state = 'running'
    void this.#send(batch).then(this.#flush)
  }

  async #send(batch: readonly Pending<Operation, Result>[]): Promise<void> {
    try {
      const results = await this.#run(batch.map((pending) => pending.operation))
      if (results.length !== batch.length) {
        throw new TypeError(
          `a batch of ${batch.length} operations got ${results.length} results; run() owes one for each`,
        )
      }
      let index = 0
      for (const result of results) {
        batch[index]?.resolve(result)
        index += 1
      }
    } catch (error) {
      for (const pending of batch) pending.reject(error)
    }
  }

  #take(): Pending<Operation, Result>[] {
    if (this.#identityOf === undefined) {
      if (this.#queue.length <= this.#maxBatch) {
        const all = this.#queue
        this.#queue = []
        return all
      }
      return this.#queue.splice(0, this.#maxBatch)
    }
    const batch: Pending<Operation, Result>[] = []
    const later: Pending<Operation, Result>[] = []
    const taken = new Set<string>()
    for (const pending of this.#queue) {
      const identity = this.#identityOf(pending.operation)
      if (batch.length < this.#maxBatch && !taken.has(identity)) batch.push(pending)
      else later.push(pending)
      taken.add(identity)
    }
    this.#queue = later
    return batch
  }
}
