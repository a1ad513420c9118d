import { hasErrorCode, type Logger } from '@x/lock-core'
import { createListener, type Listener, type ListenerOptions } from '@x/pg-session'

/**
 * Rings for the waiters of an id when a releaser in another process says so, and for all of them after each gap in
 * listening. The connection is opened for the first waiter and closed some time after the last one.
 */
export class Bell {
  readonly #options: Omit<ListenerOptions, 'onNotification' | 'onResync'>
  readonly #channel: string
  readonly #idleMs: number
  readonly #logger: Logger | undefined
  readonly #waiters = new Map<string, Set<() => void>>()
  #listener: Listener | null = null
  #idle: NodeJS.Timeout | undefined
  #closed = false

  constructor(
    options: Omit<ListenerOptions, 'onNotification' | 'onResync'>,
    use: { readonly channel: string; readonly idleMs: number },
  ) {
    this.#options = options
    this.#channel = use.channel
    this.#idleMs = use.idleMs
    this.#logger = options.logger
  }

  /** Calls `ring` whenever the id may have become free, until the result is called. */
  hear(id: string, ring: () => void): () => void {
    this.#open()
    const rings = this.#waiters.get(id) ?? new Set()
    rings.add(ring)
    this.#waiters.set(id, rings)
    return () => {
      rings.delete(ring)
      if (rings.size === 0 && this.#waiters.get(id) === rings) this.#waiters.delete(id)
      if (this.#waiters.size === 0) this.#closeWhenIdle()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#idle)
    const listener = this.#listener
    this.#listener = null
    await listener?.close()
  }

  #open(): void {
    clearTimeout(this.#idle)
    this.#listener?.keepProcess(true)
    if (this.#listener !== null || this.#closed) return
    const listener = createListener({
      ...this.#options,
      onNotification: (_channel, id) => this.#ring(this.#waiters.get(id)),
      // Whoever announced his interest before this could not hear the answer: all of them try again.
      onResync: () => {
        for (const rings of [...this.#waiters.values()]) this.#ring(rings)
      },
    })
    this.#listener = listener
    listener.listen(this.#channel).catch((error: unknown) => {
      if (hasErrorCode(error, 'CLOSED')) return
      this.#logger?.warn({ err: error }, 'waiters cannot listen and look every pollMs instead')
    })
  }

  #ring(rings: ReadonlySet<() => void> | undefined): void {
    for (const ring of [...(rings ?? [])]) ring()
  }

  #closeWhenIdle(): void {
    clearTimeout(this.#idle)
    if (this.#closed) return
    this.#listener?.keepProcess(false)
    this.#idle = setTimeout(() => {
      const listener = this.#listener
      this.#listener = null
      listener?.close().catch(() => {})
    }, this.#idleMs)
    this.#idle.unref()
  }
}
