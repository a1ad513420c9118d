import { randomUUID } from 'node:crypto'
import { ClosedError, ConfigurationError, type Logger, NodeEvictedError, type Unsubscribe } from '@x/lock-core'
import { type Clock, parseOptions, systemClock, type Timer, traced } from '@x/lock-core/adapter'
import { connectionSource, createRunner, type Runner } from '@x/pg-session'
import { z } from 'zod'
import { type AnsweredBeat, Heartbeat } from './beat.ts'
import type { ClusterEvent, ClusterEventOf } from './cluster-event.ts'
import { Contact } from './contact.ts'
import { Listeners } from './events.ts'
import { MarkedListener } from './marker.ts'
import { type Membership, type MembershipStep, nextMembership, selfAt } from './membership.ts'
import { Mesh } from './mesh.ts'
import { checkMetadata, metadataMatches } from './metadata.ts'
import { isMember, type Metadata, type Node, type NodeRecord, type NodeState } from './node.ts'
import { type ClusterDiscoveryOptions, type ResolvedOptions, resolveOptions } from './options.ts'
import { checkTables } from './schema.ts'
import { Sweeper } from './sweeper.ts'
import { ClusterTables, type Incarnation } from './tables.ts'
import { type ClusterTrace, joinChannel, leaveChannel, selfDownChannel, updateChannel } from './tracing.ts'
import { ViewKeeper } from './view-keeper.ts'
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
   * behind gets a fresh snapshot instead of them.
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
  .object({
    signal: z.instanceof(AbortSignal, { error: 'expected an AbortSignal' }).optional(),
    maxQueue: z
      .number({ error: 'expected a number' })
      .int('expected a whole number')
      .min(1, 'expected at least 1')
      .default(1_000),
  })
  .default({ maxQueue: 1_000 })

/** How long `join` waits for the listener, so that its capabilities are known; it connects in the background after that. */
const listenPatienceMs = 1_000
/** How long `close` waits for the database and for callbacks. */
const closePatienceMs = 5_000
/** How long whoever leaves waits for beats that are out. */
const abandonMs = 1_000

class Discovery implements ClusterDiscovery {
  readonly #options: ResolvedOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #logger: Logger | undefined
  readonly #runner: Runner
  readonly #tables: ClusterTables
  readonly #contact: Contact
  readonly #keeper: ViewKeeper
  readonly #heart: Heartbeat
  readonly #sweeper: Sweeper
  readonly #marked: MarkedListener | null
  readonly #mesh: Mesh<Node>
  readonly #listeners: Listeners<ClusterEvent>
  readonly #watches = new Set<Watch>()
  #membership: Membership = { at: 'idle' }
  #metadata: Metadata
  #attempt = randomUUID()
  #tablesChecked = false
  #rejoinTimer: Timer | null = null
  #serial: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | null = null

  constructor(given: ClusterDiscoveryOptions, options: ResolvedOptions, clock: Clock, random: () => number) {
    const { cluster, schema, node, heartbeatMs, ttlMs, sweepMs, leaseMs } = options
    const { pool, policy, logger, listen, connectionString, connect, disconnect } = given
    this.#options = options
    this.#clock = clock
    this.#random = random
    this.#logger = logger
    this.#metadata = node.metadata
    this.#runner = createRunner({ pool, applicationName: 'cluster-discovery', policy, logger })
    const tables = new ClusterTables(this.#runner, { schema, cluster, behindTimeoutMs: ttlMs })
    this.#tables = tables
    this.#contact = new Contact(ttlMs / 2)
    this.#listeners = new Listeners((err, type) =>
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
    this.#keeper = new ViewKeeper({
      cluster,
      id: node.id,
      tables,
      clock,
      random,
      logger,
      onEvents: (events) => this.#happened(events),
    })
    this.#marked =
      listen === false
        ? null
        : new MarkedListener({
            source: connectionSource(
              listen !== undefined
                ? { connection: listen }
                : connectionString !== undefined
                  ? { connectionString }
                  : { pool },
              'createClusterDiscovery',
            ),
            channel: tables.channel,
            logger,
            // Not sooner: beats tell the version all the while, each probe is a statement, and a marker that the server
            // dropped for a network that is slow must not come before the ttl.
            detectMs: Math.max(5_000, 2 * ttlMs),
            onNotification: (payload) => this.#keeper.announced(payload),
            onResync: (event) => this.#keeper.resync(event),
            onMarker: () => this.#markerChanged(),
          })
    this.#sweeper = new Sweeper({
      cluster,
      tables,
      contact: this.#contact,
      clock,
      random,
      logger,
      ttlMs,
      sweepMs,
      leaseMs,
      canWatchMarkers: () => this.capabilities.crashDetection,
    })
    this.#heart = new Heartbeat({
      cluster,
      tables,
      clock,
      random,
      heartbeatMs,
      ttlMs,
      leaseMs,
      marker: () => this.#marked?.marker ?? null,
      known: () => this.#keeper.view.version,
      onAnswer: (beat) => this.#answered(beat),
      onFailure: (error) => {
        this.#contact.broke()
        logger?.debug({ err: error, cluster, id: node.id }, 'a beat failed')
      },
    })
  }

  get capabilities(): { readonly listen: boolean; readonly crashDetection: boolean } {
    return { listen: this.#marked?.isListening ?? false, crashDetection: this.#marked?.marker != null }
  }

  get self(): Node {
    const { id, name, address } = this.#options.node
    return selfAt(this.#membership, this.#clock.now(), {
      id,
      incarnation: 0n,
      name,
      address,
      metadata: this.#metadata,
      state: 'joining',
      joinedAt: new Date(0),
      version: 0n,
    })
  }

  get isConnected(): boolean {
    return this.#membership.at === 'member' && this.#contact.isUnbroken(this.#clock.now())
  }

  get viewAgeMs(): number {
    return this.#keeper.ageMs(this.#clock.now())
  }

  get version(): bigint {
    return this.#keeper.view.version
  }

  join(): Promise<readonly Node[]> {
    return this.#inTurn(async () => {
      this.#assertOpen()
      if (this.#membership.at !== 'member') await this.#joinWithView()
      return this.nodes()
    })
  }

  drain(): Promise<void> {
    return this.#inTurn(async () => {
      const self = this.#member('drain')
      this.#changed(await this.#tables.drain(self), self)
      await this.#keeper.refresh()
    })
  }

  leave(): Promise<void> {
    return this.#inTurn(async () => {
      this.#assertOpen()
      await this.#leave(this.#options.ttlMs)
    })
  }

  nodes(filter?: { states?: readonly NodeState[] | undefined; metadata?: Metadata | undefined }): readonly Node[] {
    const { states, metadata } = filter ?? {}
    const { view } = this.#keeper
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
    this.#assertOpen()
    const { signal, maxQueue } = parseOptions(watchOptions, options, 'watch')
    const { view } = this.#keeper
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
    return this.#inTurn(async () => {
      this.#assertOpen()
      const metadata = checkMetadata({ ...this.#metadata, ...checkMetadata(patch, 'patch') }, 'patch')
      if (this.#membership.at === 'idle' || this.#membership.at === 'left') {
        this.#metadata = metadata
        return this.self
      }
      const self = this.#member('updateMetadata')
      await traced(updateChannel, { cluster: this.#options.cluster, id: self.id }, async () => {
        this.#changed(await this.#tables.update(self, metadata), self)
      })
      this.#metadata = metadata
      await this.#keeper.refresh()
      return this.self
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #joinWithView(): Promise<void> {
    await this.#join()
    try {
      await this.#keeper.refresh()
    } catch (error) {
      // A member without a view is of no use to the caller, and whoever rejects has not joined.
      await this.#leave(closePatienceMs).catch(() => {})
      throw error
    }
    this.#followPeers()
  }

  async #join(): Promise<void> {
    const { node, cluster, schema, ttlMs } = this.#options
    this.#step({ step: 'join' })
    try {
      if (!this.#tablesChecked) await checkTables(this.#runner, schema)
      this.#tablesChecked = true
      const startedAt = this.#clock.now()
      const joined = await traced<ClusterTrace, NodeRecord>(joinChannel, { cluster, id: node.id }, async (context) => {
        const record = await this.#tables.join({ ...node, metadata: this.#metadata }, this.#attempt, ttlMs)
        context.version = record.node.version
        return record
      })
      this.#attempt = randomUUID()
      this.#contact.answered(this.#clock.now())
      this.#step({ step: 'joined', node: joined.node, confirmedUntil: startedAt + ttlMs })
    } catch (error) {
      this.#step({ step: 'join-failed' })
      throw error
    }
    this.#keeper.start()
    if (this.#closing === null) this.#heart.start(this.#member('join'))
    await this.#listen()
  }

  async #listen(): Promise<void> {
    if (this.#marked === null || this.#marked.isStarted) return
    const patience = Promise.withResolvers<void>()
    const timer = this.#clock.schedule(patience.resolve, listenPatienceMs)
    await Promise.race([this.#marked.start(), patience.promise])
    timer.cancel()
  }

  async #leave(timeoutMs: number): Promise<void> {
    this.#rejoinTimer?.cancel()
    this.#rejoinTimer = null
    const membership = this.#step({ step: 'leave' })
    const { cluster } = this.#options
    await this.#stopBeating()
    if (membership.at === 'leaving') {
      const { node } = membership
      await traced(leaveChannel, { cluster, id: node.id }, () => this.#tables.leave(node, timeoutMs))
      this.#step({ step: 'left' })
      await this.#keeper.refresh().catch(() => {})
    }
    await this.#stopSeeing()
  }

  async #stopBeating(): Promise<void> {
    // Statements that are out may wait for a database that does not answer.
    const timer = this.#clock.schedule(() => this.#tables.abandonBackground(), abandonMs)
    await Promise.all([this.#heart.stop(), this.#sweeper.stop()])
    timer.cancel()
  }

  async #stopSeeing(): Promise<void> {
    await this.#marked?.close()
    await this.#keeper.stop()
    await this.#mesh.close(closePatienceMs)
  }

  async #close(): Promise<void> {
    await this.#serial
    const { cluster, node, ttlMs } = this.#options
    try {
      await this.#leave(Math.min(ttlMs, closePatienceMs))
    } catch (error) {
      this.#logger?.warn({ err: error, cluster, id: node.id }, 'could not leave; the others will notice by themselves')
      this.#tables.abandonBackground()
      await this.#stopSeeing()
    }
    this.#step({ step: 'close' })
    for (const watch of [...this.#watches]) watch.end()
    await this.#runner.close()
  }

  async #answered({ self, answer, startedAt, known }: AnsweredBeat): Promise<void> {
    const now = this.#clock.now()
    this.#contact.answered(now)
    if (answer?.alive !== true) return this.#letGo(self)
    this.#step({
      step: 'confirmed',
      incarnation: self.incarnation,
      confirmedUntil: startedAt + this.#options.ttlMs,
    })
    this.#keeper.beatSaw(answer.version, known, startedAt)
    if (this.#membership.at === 'member') await this.#sweeper.heard(self, answer, this.#keeper.view.members())
  }

  /** The beat found no row of this incarnation: the others have let it go, or another process has its id. */
  async #letGo(self: Incarnation): Promise<void> {
    const fate = await this.#tables.fate(self.id)
    const cause = fate !== null && fate.incarnation > self.incarnation ? 'replaced' : 'evicted'
    const before = this.#membership
    if (this.#step({ step: 'let-go', incarnation: self.incarnation, cause }) === before) return
    const { cluster, rejoin, heartbeatMs } = this.#options
    this.#logger?.warn({ cluster, ...self, cause }, 'this node is no member any more')
    selfDownChannel.publish({ cluster, ...self, cause })
    this.#happened([{ type: 'self-down', version: this.version, cause }])
    // Not awaited: this runs inside a beat, and stopping waits for beats.
    void this.#inTurn(async () => {
      if (this.#membership.at !== 'evicted') return
      await this.#stopBeating()
      if (cause === 'evicted' && rejoin) this.#rejoinIn(this.#random() * heartbeatMs)
      else {
        await this.#stopSeeing()
      }
    })
  }

  #rejoinIn(delayMs: number): void {
    if (this.#closing !== null) return
    const { heartbeatMs, cluster, node } = this.#options
    this.#rejoinTimer = this.#clock.schedule(() => {
      this.#rejoinTimer = null
      void this.#inTurn(async () => {
        if (this.#closing !== null || this.#membership.at !== 'evicted') return
        try {
          await this.#join()
          // The old view stands until it succeeds; beats ask again.
          await this.#keeper.refresh().catch(() => {})
          this.#followPeers()
        } catch (error) {
          this.#logger?.debug({ err: error, cluster, id: node.id }, 'joining again failed; it will be tried again')
          this.#rejoinIn(heartbeatMs * (0.5 + this.#random()))
        }
      })
    }, delayMs)
  }

  #happened(events: readonly ClusterEvent[]): void {
    const self = this.#keeper.view.member(this.#options.node.id)
    if (self !== undefined) this.#step({ step: 'changed', node: self })
    // The view says that this node is gone: the next beat will say why.
    else if (this.#membership.at === 'member') this.#heart.beatNow()
    this.#followPeers()
    for (const watch of [...this.#watches]) watch.push(events)
    for (const event of events) this.#listeners.emit(event)
  }

  #followPeers(): void {
    if (this.#membership.at !== 'member') return
    this.#mesh.follow(this.nodes().filter((node) => node.id !== this.#options.node.id))
  }

  #markerChanged(): void {
    if (!this.capabilities.crashDetection) this.#contact.broke()
    // At once: a node that lost only its listener must not look like one that crashed.
    this.#heart.beatNow()
  }

  #changed(record: { readonly node: Node } | null, self: Incarnation): void {
    if (record !== null) {
      this.#step({ step: 'changed', node: record.node })
      return
    }
    this.#heart.beatNow()
    throw new NodeEvictedError(
      `node ${JSON.stringify(self.id)} of cluster ${JSON.stringify(this.#options.cluster)} was let go by the others; wait until it has rejoined, or join() again`,
    )
  }

  /** The incarnation that is a member. */
  #member(what: string): Incarnation {
    this.#assertOpen()
    const membership = this.#membership
    if (membership.at === 'member') return { id: membership.node.id, incarnation: membership.node.incarnation }
    if (membership.at === 'evicted') {
      throw new NodeEvictedError(
        `${what}: node ${JSON.stringify(membership.node.id)} of cluster ${JSON.stringify(this.#options.cluster)} was ${
          membership.cause === 'replaced'
            ? 'replaced by another process with its id; give each process its own'
            : 'let go by the others; wait until it has rejoined'
        }, or join() again`,
      )
    }
    throw new ConfigurationError(`${what}: expected a member; got a node that has not joined; call join() first`)
  }

  #step(step: MembershipStep): Membership {
    this.#membership = nextMembership(this.#membership, step)
    return this.#membership
  }

  /** One after the other: join, drain, leave and updates of one node never overlap. */
  #inTurn<T>(fn: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(fn)
    this.#serial = result.catch(() => {})
    return result
  }

  #assertOpen(): void {
    if (this.#closing !== null) throw new ClosedError('cluster discovery')
  }
}
