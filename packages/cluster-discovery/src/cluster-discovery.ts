import { ConfigurationError, type Unsubscribe } from '@x/lock-core'
import { type Clock, checkOptionNames, describeValue, parseOptions, systemClock } from '@x/lock-core/adapter'
import { z } from 'zod'
import { type ClusterEvent, type ClusterEventOf, clusterEventTypes } from './cluster-event.ts'
import { Listeners } from './events.ts'
import { Member } from './member.ts'
import { Mesh } from './mesh.ts'
import { metadataMatches } from './metadata.ts'
import { isMember, type Metadata, type Node, type NodeState } from './node.ts'
import { type ClusterDiscoveryOptions, type ResolvedOptions, resolveOptions } from './options.ts'
import { Watch } from './watch.ts'

/** This process in a cluster, and the cluster as it sees it. */
export interface ClusterDiscovery extends AsyncDisposable {
  /**
   * What works here right now. Without `listen` changes are seen with the next beat; without `crashDetection` the others
   * notice a killed process by the ttl only.
   */
  readonly capabilities: { readonly listen: boolean; readonly crashDetection: boolean }
  /** This node; `down` as soon as the others may have let it go, even when nothing was heard. */
  readonly self: Node
  /** Whether the database answered this member's last statements. */
  readonly isConnected: boolean
  /**
   * What the last beat met, or why this node cannot join again or cannot listen; null while all goes well. Everything is tried
   * again: this is for whoever looks why it is not connected, or sees changes late.
   */
  readonly lastError: unknown
  /** Milliseconds since `nodes()` was known to be the newest view; Infinity before the first. */
  readonly viewAgeMs: number
  /** The version of the view; -1 before the first. */
  readonly version: bigint
  /**
   * Makes this process a member.
   * @returns the full view, this node included
   * @throws {SchemaError} when `migrate(pool)` was not run; {ConnectionError}; {ClosedError}
   */
  join(): Promise<readonly Node[]>
  /** Stays a member, and asks to be given no new work: state `leaving`. @throws {NodeEvictedError} */
  drain(): Promise<void>
  /** Ends the membership in good order; the others see `leave`, never `down`. Nothing for a node that is no member. */
  leave(): Promise<void>
  /**
   * The last known view, without asking the database; see `viewAgeMs` for how old it is.
   * @param filter.states @default ['joining', 'up', 'leaving'], the members; `left` and `down` as far as remembered
   * @param filter.metadata nodes whose metadata contain all of this
   */
  nodes(filter?: { states?: readonly NodeState[] | undefined; metadata?: Metadata | undefined }): readonly Node[]
  /**
   * First a snapshot, then what happens, in version order, nothing twice. A reader that falls more than `maxQueue` events
   * behind gets a fresh snapshot instead of them; a `self-down` among them is told before it, a `resync` after it.
   * @param options.signal ends the iteration
   * @param options.maxQueue @default 1_000
   */
  watch(options?: {
    signal?: AbortSignal | undefined
    maxQueue?: number | undefined
  }): AsyncIterableIterator<ClusterEvent>
  /** The same as calls. A listener that throws is logged. */
  on<T extends ClusterEvent['type']>(type: T, listener: (event: ClusterEventOf<T>) => void): Unsubscribe
  /** Changes these keys of the own metadata for everybody. Before the join it changes what the join will say. */
  updateMetadata(patch: Metadata): Promise<Node>
  /** Leaves if joined, and ends everything. Idempotent. */
  close(): Promise<void>
}

/**
 * Makes this process part of a cluster; nothing happens before `join()`.
 *
 * @throws {ConfigurationError}
 * @example
 * await using discovery = createClusterDiscovery({ pool, cluster: 'shop', node: { name: 'web-1' } })
 * await discovery.join()
 * for await (const event of discovery.watch()) console.log(event.type, discovery.nodes().length)
 */
export function createClusterDiscovery(options: ClusterDiscoveryOptions): ClusterDiscovery {
  return new Discovery(options, resolveOptions(options), systemClock, Math.random)
}

const watchOptions = z
  .strictObject({
    signal: z.instanceof(AbortSignal, { error: 'expected an AbortSignal' }).optional(),
    maxQueue: z
      .number({ error: 'expected a number' })
      .int('expected a whole number')
      .min(1, 'expected at least 1')
      .default(1_000),
  })
  .default({ maxQueue: 1_000 })

/** A filter that is not understood must not let everybody through. */
function checkFilter(filter: object): void {
  checkOptionNames(filter, ['states', 'metadata'], 'nodes')
  const states: unknown = Reflect.get(filter, 'states')
  if (states === undefined || Array.isArray(states)) return
  throw new ConfigurationError(`nodes: option states: expected an array such as ['up']; got ${describeValue(states)}`, {
    option: 'states',
  })
}

/** How long the end of a membership waits for callbacks that ignore their signal. */
const disconnectPatienceMs = 5_000

class Discovery implements ClusterDiscovery {
  readonly #member: Member
  readonly #mesh: Mesh<Node>
  readonly #listeners: Listeners<ClusterEvent>
  readonly #watches = new Set<Watch>()
  #closing: Promise<void> | null = null

  constructor(given: ClusterDiscoveryOptions, options: ResolvedOptions, clock: Clock, random: () => number) {
    const { logger, connect, disconnect } = given
    const { cluster } = options
    this.#listeners = new Listeners(clusterEventTypes, (err, type) =>
      logger?.error({ err, cluster, type }, 'a listener of the cluster threw'),
    )
    this.#mesh = new Mesh<Node>({
      idOf: (peer) => peer.id,
      incarnationOf: (peer) => peer.incarnation,
      connect,
      disconnect,
      clock,
      random,
      logger,
    })
    const callbacks = {
      onEvents: (events: readonly ClusterEvent[]) => this.#happened(events),
      onJoined: () => this.#followPeers(),
      onEnded: () => this.#mesh.close(disconnectPatienceMs),
    }
    this.#member = new Member(given, options, callbacks, clock, random)
  }

  get capabilities(): { readonly listen: boolean; readonly crashDetection: boolean } {
    return this.#member.capabilities
  }

  get self(): Node {
    return this.#member.self
  }

  get isConnected(): boolean {
    return this.#member.isConnected
  }

  get lastError(): unknown {
    return this.#member.lastError
  }

  get viewAgeMs(): number {
    return this.#member.viewAgeMs
  }

  get version(): bigint {
    return this.#member.view.version
  }

  async join(): Promise<readonly Node[]> {
    await this.#member.join()
    return this.nodes()
  }

  drain(): Promise<void> {
    return this.#member.drain()
  }

  leave(): Promise<void> {
    return this.#member.leave()
  }

  nodes(filter?: { states?: readonly NodeState[] | undefined; metadata?: Metadata | undefined }): readonly Node[] {
    if (filter !== undefined) checkFilter(filter)
    const { states, metadata } = filter ?? {}
    const { view } = this.#member
    if (states === undefined && metadata === undefined) return view.members()
    const among = states?.some((state) => !isMember(state)) ? [...view.members(), ...view.tombstones()] : view.members()
    return among.filter(
      (node) =>
        (states === undefined || states.includes(node.state)) &&
        (metadata === undefined || metadataMatches(node.metadata, metadata)),
    )
  }

  watch(options?: {
    signal?: AbortSignal | undefined
    maxQueue?: number | undefined
  }): AsyncIterableIterator<ClusterEvent> {
    this.#member.assertOpen()
    const { signal, maxQueue } = parseOptions(watchOptions, options, 'watch')
    const { view } = this.#member
    const watch = new Watch({
      snapshot: () => (view.version < 0n ? null : view.snapshot()),
      onEnd: (ended) => this.#watches.delete(ended),
      maxQueue,
      signal,
    })
    if (signal?.aborted !== true) this.#watches.add(watch)
    return watch
  }

  on<T extends ClusterEvent['type']>(type: T, listener: (event: ClusterEventOf<T>) => void): Unsubscribe {
    return this.#listeners.add(type, listener)
  }

  updateMetadata(patch: Metadata): Promise<Node> {
    return this.#member.updateMetadata(patch)
  }

  close(): Promise<void> {
    this.#closing ??= this.#member.close().then(() => {
      for (const watch of [...this.#watches]) watch.end()
    })
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #happened(events: readonly ClusterEvent[]): void {
    this.#followPeers()
    for (const watch of [...this.#watches]) watch.push(events)
    for (const event of events) this.#listeners.emit(event)
  }

  #followPeers(): void {
    if (!this.#member.isMember) return
    const { id } = this.#member.self
    this.#mesh.follow(this.#member.view.members().filter((node) => node.id !== id))
  }
}
