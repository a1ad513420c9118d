import type { ClusterEvent, ClusterEventOf } from './cluster-event.ts'

/**
 * One reader of the events. What it has not read is queued; when that grows past `maxQueue`, the queue is given up for one
 * fresh snapshot, taken at the moment it is read: memory stays bounded, and the reader still ends up with the truth. Two
 * things no snapshot can say, so they outlive the queue, one event of each kind: that this node was let go, and that there
 * was a gap.
 */
export class Watch implements AsyncIterableIterator<ClusterEvent> {
  readonly #snapshot: () => ClusterEvent | null
  readonly #onEnd: (watch: Watch) => void
  readonly #maxQueue: number
  readonly #signal: AbortSignal | undefined
  #queue: ClusterEvent[] = []
  /** What the reader gets before the snapshot that is due. */
  #before: readonly ClusterEvent[] = []
  /** What he gets after it, since the snapshot holds what changed in the gap. */
  #resync: ClusterEventOf<'resync'> | null = null
  /** Whether he has been given a snapshot. */
  #begun = false
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
    if (this.#state === 'following') {
      this.#queue.push(...events)
      if (this.#queue.length > this.#maxQueue) {
        this.#state = 'snapshot-due'
        this.#keep(this.#queue)
        this.#queue = []
      }
      // Until the snapshot is read, whatever else happens is part of it.
    } else this.#keep(events)
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
    this.#before = []
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

  /** Of several the last one: it says what is true now, and gaps add up. */
  #keep(events: readonly ClusterEvent[]): void {
    for (const event of events) {
      if (event.type === 'self-down') this.#before = [...this.#first(), event]
      // Who has read nothing has no gap.
      else if (event.type === 'resync' && this.#begun) {
        this.#resync = { ...event, gapMs: event.gapMs + (this.#resync?.gapMs ?? 0) }
      }
    }
  }

  /** A watch begins with a snapshot, and this node was in it until it was let go. */
  #first(): readonly ClusterEvent[] {
    if (this.#begun) return []
    const first = this.#before.find(({ type }) => type === 'snapshot') ?? this.#snapshot()
    return first === null ? [] : [first]
  }

  #take(): ClusterEvent | null {
    if (this.#state !== 'snapshot-due') return this.#queue.shift() ?? null
    const [kept, ...rest] = this.#before
    if (kept !== undefined) {
      this.#before = rest
      this.#begun = true
      return kept
    }
    const snapshot = this.#snapshot()
    if (snapshot === null) return null
    this.#state = 'following'
    this.#begun = true
    if (this.#resync !== null) this.#queue = [{ ...this.#resync, version: snapshot.version }]
    this.#resync = null
    return snapshot
  }
}
