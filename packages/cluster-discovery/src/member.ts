import { randomUUID } from 'node:crypto'
import { ClosedError, type Logger, NodeEvictedError } from '@x/lock-core'
import { type Clock, traced } from '@x/lock-core/adapter'
import type { AnsweredBeat } from './beat.ts'
import type { ClusterEvent } from './cluster-event.ts'
import { Eviction } from './eviction.ts'
import { Lifelines } from './lifelines.ts'
import { checkMetadata } from './metadata.ts'
import type { Metadata, Node, NodeRecord } from './node.ts'
import type { ClusterDiscoveryOptions, ResolvedOptions } from './options.ts'
import { Standing } from './standing.ts'
import type { Incarnation } from './tables.ts'
import { type ClusterTrace, joinChannel, leaveChannel, updateChannel } from './tracing.ts'
import { Turns } from './turns.ts'
import type { View } from './view.ts'

/** What a member tells of. */
export interface MemberCallbacks {
  /** What happened, in version order; the view and `self` are already as they are after it. */
  readonly onEvents: (events: readonly ClusterEvent[]) => void
  /** The membership begins (again); the view is current. */
  readonly onJoined: () => void
  /** The membership is over: it left, or was let go for good. */
  readonly onEnded: () => Promise<void>
}

/** How long `join` waits for the view: a thousand nodes that start at once keep the database busy. */
const joinPatienceMs = 30_000
/** How long `leave` waits for the database, if the ttl is longer; after that the others notice by themselves. */
const leavePatienceMs = 10_000
/** How long `close` waits for the database and for callbacks. */
const closePatienceMs = 5_000

/**
 * This process as a member: walks through the states of membership.ts, on the lifelines that it owns. What the caller asks
 * for happens in turn; what comes from the database happens in between.
 */
export class Member {
  readonly #options: ResolvedOptions
  readonly #clock: Clock
  readonly #logger: Logger | undefined
  readonly #lines: Lifelines
  readonly #callbacks: MemberCallbacks
  readonly #standing: Standing
  #attempt = randomUUID()
  #tablesChecked = false
  /** Join, drain, leave and updates of one node never overlap. */
  readonly #turns = new Turns()
  readonly #eviction: Eviction
  #closing: Promise<void> | null = null

  constructor(
    given: Pick<ClusterDiscoveryOptions, 'pool' | 'policy' | 'logger' | 'listen' | 'connectionString'>,
    options: ResolvedOptions,
    callbacks: MemberCallbacks,
    clock: Clock,
    random: () => number,
  ) {
    this.#options = options
    this.#callbacks = callbacks
    this.#clock = clock
    this.#logger = given.logger
    this.#standing = new Standing(options, clock)
    this.#lines = new Lifelines(given, options, clock, random, {
      onEvents: (events) => this.#happened(events),
      onAnswer: (beat) => this.#answered(beat),
    })
    this.#eviction = new Eviction({
      options,
      lines: this.#lines,
      standing: this.#standing,
      turns: this.#turns,
      clock,
      random,
      logger: given.logger,
      onSelfDown: (cause) => this.#happened([{ type: 'self-down', version: this.view.version, cause }]),
      isOpen: () => this.#closing === null,
      joinAgain: () => this.#joinAgain(),
      onEnded: () => this.#stopSeeing(),
    })
  }

  get capabilities(): { readonly listen: boolean; readonly crashDetection: boolean } {
    return this.#lines.capabilities
  }

  get self(): Node {
    return this.#standing.self
  }

  get isConnected(): boolean {
    return this.isMember && this.#lines.contact.isUnbroken(this.#clock.now())
  }

  /** Why the database cannot be reached or listened to; null while all goes well. */
  get lastError(): unknown {
    return this.#eviction.lastError ?? this.#lines.lastError
  }

  get viewAgeMs(): number {
    return this.#lines.keeper.ageMs(this.#clock.now())
  }

  get view(): View {
    return this.#lines.keeper.view
  }

  /** Whether this process is a member and has not begun to leave. */
  get isMember(): boolean {
    return this.#standing.at === 'member'
  }

  join(): Promise<void> {
    return this.#turns.take(async () => {
      this.assertOpen()
      if (!this.isMember) await this.#joinWithView()
    })
  }

  drain(): Promise<void> {
    return this.#turns.take(async () => {
      const self = this.#incarnation('drain')
      this.#changed(await this.#lines.tables.drain(self), self)
      await this.#seeOwnChange()
    })
  }

  leave(): Promise<void> {
    return this.#turns.take(async () => {
      this.assertOpen()
      await this.#leave(Math.min(this.#options.ttlMs, leavePatienceMs))
    })
  }

  updateMetadata(patch: Metadata): Promise<Node> {
    return this.#turns.take(async () => {
      this.assertOpen()
      const metadata = checkMetadata({ ...this.#standing.metadata, ...checkMetadata(patch, 'patch') }, 'patch')
      if (this.#standing.at === 'idle' || this.#standing.at === 'left') {
        this.#standing.metadata = metadata
        return this.self
      }
      const self = this.#incarnation('updateMetadata')
      await traced(updateChannel, { cluster: this.#options.cluster, id: self.id }, async () => {
        this.#changed(await this.#lines.tables.update(self, metadata), self)
      })
      this.#standing.metadata = metadata
      await this.#seeOwnChange()
      return this.self
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** @throws {ClosedError} */
  assertOpen(): void {
    if (this.#closing !== null) throw new ClosedError('cluster discovery')
  }

  /** The change is made; a view that comes later is no failure of it. */
  async #seeOwnChange(): Promise<void> {
    await this.#lines.keeper.refresh().catch(() => {})
  }

  async #joinWithView(): Promise<void> {
    await this.#join()
    try {
      await this.#lines.keeper.refresh(joinPatienceMs)
    } catch (error) {
      // A member without a view is of no use to the caller, and whoever rejects has not joined.
      await this.#leave(closePatienceMs).catch(() => {})
      throw error
    }
    this.#callbacks.onJoined()
  }

  async #join(): Promise<void> {
    const { node, cluster, ttlMs } = this.#options
    this.#standing.step({ step: 'join' })
    try {
      // Whoever is told that this node was let go may ask for this before the beats of its earlier life were ended.
      await this.#lines.stopBeating()
      if (!this.#tablesChecked) await this.#lines.tables.checkSchema()
      this.#tablesChecked = true
      const startedAt = this.#clock.now()
      const joined = await traced<ClusterTrace, NodeRecord>(joinChannel, { cluster, id: node.id }, async (context) => {
        const record = await this.#lines.tables.join(
          { ...node, metadata: this.#standing.metadata },
          this.#attempt,
          ttlMs,
        )
        context.version = record.node.version
        return record
      })
      this.#attempt = randomUUID()
      this.#lines.contact.answered(startedAt, this.#clock.now())
      this.#standing.step({ step: 'joined', node: joined.node, confirmedUntil: startedAt + ttlMs })
    } catch (error) {
      this.#standing.step({ step: 'join-failed' })
      throw error
    }
    this.#lines.keeper.start()
    if (this.#closing === null) this.#lines.heart.start(this.#incarnation('join'))
    await this.#lines.listen()
  }

  async #leave(timeoutMs: number): Promise<void> {
    this.#eviction.stay()
    const { now: membership } = this.#standing.step({ step: 'leave' })
    const { cluster } = this.#options
    await this.#lines.stopBeating()
    if (membership.at === 'leaving' && this.#standing.at === 'leaving') {
      const { node } = membership
      await traced(leaveChannel, { cluster, id: node.id }, () => this.#lines.tables.leave(node, timeoutMs))
      this.#standing.step({ step: 'left' })
      await this.#seeOwnChange()
      // Of a node that was let go before, also by its last beat: it does not come back by itself any more.
    } else this.#standing.step({ step: 'left' })
    await this.#stopSeeing()
  }

  async #stopSeeing(): Promise<void> {
    await this.#lines.stopSeeing()
    await this.#callbacks.onEnded()
  }

  async #close(): Promise<void> {
    const { cluster, node, ttlMs } = this.#options
    const patienceMs = Math.min(ttlMs, closePatienceMs)
    // What the caller asked for before may hang on a database that does not answer.
    const timer = this.#clock.schedule(
      () => this.#lines.tables.abandonAll(new ClosedError('cluster discovery')),
      patienceMs,
    )
    await this.#turns.over
    timer.cancel()
    try {
      await this.#leave(patienceMs)
    } catch (error) {
      this.#logger?.warn({ err: error, cluster, id: node.id }, 'could not leave; the others will notice by themselves')
      this.#lines.tables.abandonBackground()
      await this.#stopSeeing()
    }
    this.#standing.step({ step: 'close' })
    await this.#lines.runner.close()
  }

  async #answered({ self, answer, startedAt, known }: AnsweredBeat): Promise<void> {
    this.#lines.contact.answered(startedAt, this.#clock.now())
    if (answer === null) return this.#eviction.noticed(self)
    this.#standing.step({
      step: 'confirmed',
      incarnation: self.incarnation,
      confirmedUntil: startedAt + this.#options.ttlMs,
    })
    this.#lines.keeper.beatSaw(answer, known, startedAt)
    if (this.isMember) await this.#lines.sweeper.heard(self, answer.sweeping, this.#lines.keeper.view.members())
  }

  async #joinAgain(): Promise<void> {
    await this.#join()
    // The old view stands until it succeeds; beats ask again.
    await this.#lines.keeper.refresh().catch(() => {})
    this.#callbacks.onJoined()
  }

  #happened(events: readonly ClusterEvent[]): void {
    const self = this.#lines.keeper.view.member(this.#options.node.id)
    if (self !== undefined) this.#standing.step({ step: 'changed', node: self })
    // The view says that this node is gone: the next beat will say why.
    else if (this.isMember) this.#lines.heart.beatNow()
    this.#callbacks.onEvents(events)
  }

  #changed(record: { readonly node: Node } | null, self: Incarnation): void {
    if (record !== null) {
      this.#standing.step({ step: 'changed', node: record.node })
      return
    }
    this.#lines.heart.beatNow()
    throw new NodeEvictedError(
      `node ${JSON.stringify(self.id)} of cluster ${JSON.stringify(this.#options.cluster)} was let go by the others; wait until it has rejoined, or join() again`,
    )
  }

  /** @throws {ClosedError}, {NodeEvictedError}, {ConfigurationError} unless this process is a member */
  #incarnation(what: string): Incarnation {
    this.assertOpen()
    return this.#standing.asking(what)
  }
}
