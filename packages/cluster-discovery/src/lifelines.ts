import type { Clock } from '@x/lock-core/adapter'
import { createRunner, type Runner } from '@x/pg-session'
import { type AnsweredBeat, Heartbeat } from './beat.ts'
import type { ClusterEvent } from './cluster-event.ts'
import { Contact } from './contact.ts'
import { type MarkedListener, markedListener } from './marker.ts'
import type { ClusterDiscoveryOptions, ResolvedOptions } from './options.ts'
import { Sweeper } from './sweeper.ts'
import { ClusterTables } from './tables.ts'
import { ViewKeeper } from './view-keeper.ts'

/** What a member makes of what its lifelines bring. */
export interface LifelineCallbacks {
  readonly onEvents: (events: readonly ClusterEvent[]) => void
  readonly onAnswer: (beat: AnsweredBeat) => Promise<void>
}

/** How long `listen` waits, so that the capabilities are known after a join; it connects in the background after that. */
const listenPatienceMs = 1_000
/** How long whoever leaves waits for beats that are out. */
const abandonMs = 1_000

/**
 * What a member lives on: its statements, its beats, its listener with the marker, its view, and its part in sweeping.
 * Knows how they hang together, and nothing of the states that a member goes through.
 */
export class Lifelines {
  readonly runner: Runner
  readonly tables: ClusterTables
  readonly contact: Contact
  readonly keeper: ViewKeeper
  readonly heart: Heartbeat
  readonly sweeper: Sweeper
  readonly #marked: MarkedListener | null
  readonly #clock: Clock

  constructor(
    given: Pick<ClusterDiscoveryOptions, 'pool' | 'policy' | 'logger' | 'listen' | 'connectionString'>,
    options: ResolvedOptions,
    clock: Clock,
    random: () => number,
    callbacks: LifelineCallbacks,
  ) {
    const { cluster, schema, node, heartbeatMs, ttlMs, sweepMs, leaseMs } = options
    const { pool, policy, logger } = given
    this.#clock = clock
    this.runner = createRunner({ pool, applicationName: 'cluster-discovery', policy, logger })
    const tables = new ClusterTables(this.runner, { schema, cluster, behindTimeoutMs: ttlMs })
    const contact = new Contact(ttlMs / 2)
    const shared = { cluster, tables, clock, random, logger }
    this.tables = tables
    this.contact = contact
    this.keeper = new ViewKeeper({ ...shared, id: node.id, onEvents: callbacks.onEvents })
    this.#marked = markedListener(given, {
      channel: tables.channel,
      logger,
      // Not sooner: beats tell the version all the while, and each probe is a statement. A connection that is lost without a
      // word costs a lag of one beat until then, and no life (see `crashed` in sql-fragments.ts).
      detectMs: Math.max(5_000, 4 * ttlMs),
      onNotification: (payload) => this.keeper.announced(payload),
      onResync: (event) => this.keeper.resync(event),
      onMarker: () => this.#markerChanged(),
    })
    const canWatchMarkers = (): boolean => this.capabilities.crashDetection
    this.sweeper = new Sweeper({ ...shared, contact, ttlMs, sweepMs, leaseMs, canWatchMarkers })
    this.heart = new Heartbeat({
      ...shared,
      heartbeatMs,
      ttlMs,
      leaseMs,
      marker: () => this.#marked?.marker ?? null,
      known: () => this.keeper.view.version,
      asks: () => this.sweeper.asks(node.id, this.keeper.view.members()),
      onAnswer: callbacks.onAnswer,
      onFailure: (error) => {
        contact.broke()
        logger?.debug({ err: error, cluster, id: node.id }, 'a beat failed')
      },
    })
  }

  get capabilities(): { readonly listen: boolean; readonly crashDetection: boolean } {
    return { listen: this.#marked?.isListening ?? false, crashDetection: this.#marked?.marker != null }
  }

  /** What the last beat met, or else what keeps it from listening; null while both go well. */
  get lastError(): unknown {
    return this.heart.lastError ?? this.#marked?.lastError ?? null
  }

  /** Resolves when it listens, or after a moment. */
  async listen(): Promise<void> {
    if (this.#marked === null || this.#marked.isStarted) return
    const patience = Promise.withResolvers<void>()
    const timer = this.#clock.schedule(patience.resolve, listenPatienceMs)
    await Promise.race([this.#marked.start(), patience.promise])
    timer.cancel()
  }

  /** No beat and no look goes out any more; those that are out have a moment to end. */
  async stopBeating(): Promise<void> {
    // Statements that are out may wait for a database that does not answer.
    const timer = this.#clock.schedule(() => this.tables.abandonBackground(), abandonMs)
    await Promise.all([this.heart.stop(), this.sweeper.stop()])
    timer.cancel()
  }

  /** The view stays as it is. */
  async stopSeeing(): Promise<void> {
    await this.#marked?.close()
    await this.keeper.stop()
  }

  #markerChanged(): void {
    if (!this.capabilities.crashDetection) this.contact.broke()
    // At once: a node that lost only its listener must not look like one that crashed.
    this.heart.beatNow()
  }
}
