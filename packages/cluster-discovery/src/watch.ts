import type { ClusterEvent } from './cluster-event.ts'

/**
 * One reader of the events. What it has not read is queued; when that grows past `maxQueue`, the queue is given up for one
 * fresh snapshot, taken at the moment it is read: memory stays bounded, and the reader still ends up with the truth.
 */
export class Watch implements AsyncIterableIterator<ClusterEvent> {
  readonly #snapshot: () => ClusterEvent | null
  readonly #onEnd: (watch: Watch) => void
  readonly #maxQueue: number
  readonly #signal: AbortSignal | undefined
  #queue: ClusterEvent[] = []
  #waiting: ((result: IteratorResult<ClusterEvent>) => void)[] = []
  #state: 'snapshot-due' | 'following' | 'ended' = 'snapshot-due'

  /** @param options.snapshot null while there is no view yet */
  constructor(options: {
    snapshot: () => ClusterEvent | null
    onEnd: (watch: Watch) => void
    maxQueue: number
    signal?: AbortSignal | undefined
  }) {
    this.#snapshot = options.snapshot
    this.#onEnd = options.onEnd
    this.#maxQueue = options.maxQueue
    this.#signal = options.signal
    this.#signal?.addEventListener('abort', this.end, { once: true })
    if (this.#signal?.aborted) this.end()
  }

  /** What has just happened, in order; also called when the first view is there. */
  push(events: readonly ClusterEvent[]): void {
    if (this.#state === 'ended') return
    // Until the snapshot is read, whatever happens is part of it.
    if (this.#state === 'following') {
      this.#queue.push(...events)
      if (this.#queue.length > this.#maxQueue) {
        this.#queue = []
        this.#state = 'snapshot-due'
      }
    }
    for (let resolve = this.#waiting[0]; resolve !== undefined; resolve = this.#waiting[0]) {
      const event = this.#take()
      if (event === null) return
      this.#waiting.shift()
      resolve({ done: false, value: event })
    }
  }

  /** Done for the reader; what is queued is dropped. Idempotent. */
  readonly end = (): void => {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#queue = []
    this.#signal?.removeEventListener('abort', this.end)
    this.#onEnd(this)
    for (const resolve of this.#waiting.splice(0)) resolve({ done: true, value: undefined })
  }

  next(): Promise<IteratorResult<ClusterEvent>> {
    if (this.#state === 'ended') return Promise.resolve({ done: true, value: undefined })
    const event = this.#waiting.length === 0 ? this.#take() : null
    if (event !== null) return Promise.resolve({ done: false, value: event })
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  return(): Promise<IteratorResult<ClusterEvent>> {
    this.end()
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end()
  }

  #take(): ClusterEvent | null {
    if (this.#state === 'snapshot-due') {
      const snapshot = this.#snapshot()
      if (snapshot !== null) this.#state = 'following'
      return snapshot
    }
    return this.#queue.shift() ?? null
  }
}
