import type { Logger } from '@x/lock-core'
import type { Clock } from '@x/lock-core/adapter'

export interface MeshOptions<Peer> {
  readonly idOf: (peer: Peer) => string
  /** Which life of the id; another one is another link. */
  readonly incarnationOf: (peer: Peer) => bigint
  readonly connect?: ((peer: Peer, signal: AbortSignal) => Promise<void>) | undefined
  readonly disconnect?: ((peer: Peer) => void | Promise<void>) | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly logger?: Logger | undefined
  /** Pauses between attempts double from the first to the last, milliseconds. @default { first: 200, last: 10_000 } */
  readonly retryMs?: { readonly first: number; readonly last: number } | undefined
}

/**
 * Keeps the application connected to all peers: calls `connect` for each that comes, again after each failure, and
 * `disconnect` for each that was connected and goes. Calls for one id never overlap, also not for two of its incarnations.
 */
export class Mesh<Peer> {
  readonly #options: MeshOptions<Peer>
  readonly #links = new Map<string, Link<Peer>>()
  readonly #ending = new Map<string, Promise<void>>()

  constructor(options: MeshOptions<Peer>) {
    this.#options = options
  }

  /** From now on these are the peers. */
  follow(peers: readonly Peer[]): void {
    const { connect, disconnect, idOf, incarnationOf } = this.#options
    if (connect === undefined && disconnect === undefined) return
    const wanted = new Map(peers.map((peer) => [idOf(peer), peer]))
    for (const [id, link] of this.#links) {
      const peer = wanted.get(id)
      if (peer === undefined || incarnationOf(peer) !== incarnationOf(link.peer)) this.#end(id, link)
    }
    for (const [id, peer] of wanted) {
      const link = this.#links.get(id)
      if (link === undefined) this.#links.set(id, new Link(peer, this.#options, this.#ending.get(id)))
      else link.peer = peer
    }
  }

  /** Ends the pause before the next attempt to connect to `peer`, if there is one. */
  retryNow(peer: Peer): void {
    this.#links.get(this.#options.idOf(peer))?.retryNow()
  }

  /** Disconnects from everybody. Waits for the callbacks, but no longer than `patienceMs` for those that ignore their signal. */
  async close(patienceMs: number): Promise<void> {
    for (const [id, link] of this.#links) this.#end(id, link)
    if (this.#ending.size === 0) return
    const patience = Promise.withResolvers<void>()
    const timer = this.#options.clock.schedule(patience.resolve, patienceMs)
    await Promise.race([Promise.all(this.#ending.values()), patience.promise])
    timer.cancel()
  }

  #end(id: string, link: Link<Peer>): void {
    this.#links.delete(id)
    const ended = link.end().finally(() => {
      if (this.#ending.get(id) === ended) this.#ending.delete(id)
    })
    this.#ending.set(id, ended)
  }
}

/** One peer, from when it is wanted until it is not. */
class Link<Peer> {
  peer: Peer
  readonly #options: MeshOptions<Peer>
  readonly #controller = new AbortController()
  readonly #done: Promise<void>
  #wake: (() => void) | null = null

  constructor(peer: Peer, options: MeshOptions<Peer>, after: Promise<void> | undefined) {
    this.peer = peer
    this.#options = options
    this.#done = this.#run(after)
  }

  retryNow(): void {
    this.#wake?.()
  }

  end(): Promise<void> {
    this.#controller.abort()
    return this.#done
  }

  async #run(after: Promise<void> | undefined): Promise<void> {
    await after
    if (!(await this.#connect())) return
    const { signal } = this.#controller
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    try {
      await this.#options.disconnect?.(this.peer)
    } catch (error) {
      this.#options.logger?.warn({ err: error, peer: this.#options.idOf(this.peer) }, 'disconnect failed')
    }
  }

  /** False when the peer went before it was reached. */
  async #connect(): Promise<boolean> {
    const { signal } = this.#controller
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await this.#options.connect?.(this.peer, signal)
        return true
      } catch (error) {
        if (signal.aborted) return false
        const peer = this.#options.idOf(this.peer)
        this.#options.logger?.warn({ err: error, peer, attempt }, 'connect failed; it will be tried again')
        await this.#pause(attempt)
      }
    }
    return false
  }

  #pause(attempt: number): Promise<void> {
    const { clock, random, retryMs = { first: 200, last: 10_000 } } = this.#options
    const { signal } = this.#controller
    const longest = Math.min(retryMs.last, retryMs.first * 2 ** attempt)
    return new Promise((resolve) => {
      const over = (): void => {
        timer.cancel()
        signal.removeEventListener('abort', over)
        this.#wake = null
        resolve()
      }
      const timer = clock.schedule(over, longest * (0.5 + random() / 2))
      signal.addEventListener('abort', over, { once: true })
      this.#wake = over
    })
  }
}
