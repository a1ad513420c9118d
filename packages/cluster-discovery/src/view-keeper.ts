import type { Logger } from '@x/lock-core'
import { type Clock, type Timer, traced } from '@x/lock-core/adapter'
import type { ClusterEvent } from './cluster-event.ts'
import { type BeatAnswer, parseAnnouncement, type ServerReading } from './record.ts'
import type { ClusterTables } from './tables.ts'
import { type ClusterTrace, readChannel } from './tracing.ts'
import { View } from './view.ts'

export interface ViewKeeperOptions {
  readonly cluster: string
  readonly id: string
  readonly tables: ClusterTables
  readonly clock: Clock
  readonly random: () => number
  readonly logger?: Logger | undefined
  /** What happened, in version order, after it is part of the view; a snapshot for the first reading. */
  readonly onEvents: (events: readonly ClusterEvent[]) => void
}

/** Between two reads that nobody waits for: this, or so many times what the last one took, but no longer than a while. */
const readGapMs = 500
const readShare = 4
const longestReadGapMs = 5_000
/** Listeners that hear the same hint read within this time, not all at once. */
const hintSpreadMs = 100
/** After an outage everybody reconnects at once, and reads the full view. */
const resyncSpreadMs = 500

/**
 * Keeps the view current: applies what notifications bring, reads what they do not, and counts how old the view is. A
 * notification is a hint: whatever it says or fails to say, beats tell the version.
 */
export class ViewKeeper {
  readonly view: View = new View()
  readonly #options: ViewKeeperOptions
  #currentAt = Number.NEGATIVE_INFINITY
  #nextReadAt = Number.NEGATIVE_INFINITY
  #timer: Timer | null = null
  #due = Number.POSITIVE_INFINITY
  #gap: { readonly gapMs: number } | null = null
  /** The server that the view was read from in full. */
  #server: string | null = null
  /** The database may have failed over to another history: this node was no member for a while, or another server answers. */
  #isForeign = false
  #reads: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: ViewKeeperOptions) {
    this.#options = options
  }

  /** Milliseconds since the view was known to be the newest; Infinity before the first reading. */
  ageMs(now: number): number {
    return now - this.#currentAt
  }

  /** A notification came in. Payloads that are not ours are ignored. */
  announced(payload: string): void {
    const announcement = parseAnnouncement(payload)
    if (announcement === null) {
      this.#options.logger?.debug({ cluster: this.#options.cluster }, 'a foreign payload on the channel of the cluster')
      return
    }
    const { version, records } = announcement
    // In doubt the version says nothing: the database may have lost some (failover).
    if (version <= this.view.version && !this.#inDoubt) return
    if (records !== null && version === this.view.version + 1n && !this.#inDoubt) {
      this.#tell(this.view.apply({ version, scope: 'delta', records }))
    } else this.#request(hintSpreadMs)
  }

  /** A beat, sent when `known` was known, saw `version` on `server`. */
  beatSaw({ version, server }: Pick<BeatAnswer, 'version' | 'server'>, known: bigint, startedAt: number): void {
    if (server !== this.#server) this.#isForeign = true
    // The read that a gap asked for may have failed. Whoever was away together still reads one after the other.
    if (this.#inDoubt) this.#request(resyncSpreadMs)
    else if (version > this.view.version || version < known) this.#request(0)
    else if (version === this.view.version) this.#currentAt = Math.max(this.#currentAt, startedAt)
  }

  /** The listener was away: reads the full view, and then says so. The first time it only reads what it may have missed. */
  resync(event: { readonly gapMs: number; readonly first: boolean }): void {
    if (!event.first) this.#gap = { gapMs: event.gapMs + (this.#gap?.gapMs ?? 0) }
    this.#request(event.first ? 0 : resyncSpreadMs)
  }

  /** Reads now, after whatever is being read. Rejects when the database does not answer within its usual time or `patienceMs`. */
  refresh(patienceMs = 0): Promise<void> {
    const read = this.#reads.then(() => this.#read(patienceMs))
    this.#reads = read.catch(() => {})
    return read
  }

  /** A membership begins: the next read takes everything, whatever is known from the last one. */
  start(): void {
    this.#stopped = false
    this.#isForeign = true
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    this.#due = Number.POSITIVE_INFINITY
    await this.#reads
  }

  get #inDoubt(): boolean {
    return this.#gap !== null || this.#isForeign
  }

  #request(spreadMs: number): void {
    if (this.#stopped) return
    const { clock, random, logger, cluster } = this.#options
    const now = clock.now()
    const due = Math.max(now + random() * spreadMs, this.#nextReadAt)
    if (due >= this.#due) return
    this.#due = due
    this.#timer?.cancel()
    this.#timer = clock.schedule(() => {
      this.#due = Number.POSITIVE_INFINITY
      // The next beat asks again.
      this.refresh().catch((error: unknown) => logger?.debug({ err: error, cluster }, 'reading the cluster failed'))
    }, due - now)
  }

  async #read(patienceMs: number): Promise<void> {
    const { cluster, id, tables, clock } = this.#options
    const startedAt = clock.now()
    this.#nextReadAt = startedAt + readGapMs
    const gap = this.#gap
    const isForeign = this.#isForeign
    const before = this.view.version
    const reading = await traced<ClusterTrace, ServerReading | null>(readChannel, { cluster, id }, async (context) => {
      // In doubt everything: a failover may have lost versions that we know, and given their numbers to others.
      const got = await tables.read(gap !== null || isForeign ? -1n : before, patienceMs)
      if (got !== null) {
        context.version = got.version
        context.records = got.records.length
      }
      return got
    })
    // A thousand nodes that start at once are a thousand reads of ever more rows: whoever finds the database busy waits.
    const tookMs = clock.now() - startedAt
    this.#nextReadAt = startedAt + Math.min(Math.max(readGapMs, readShare * tookMs), longestReadGapMs)
    if (reading === null) return
    if (reading.scope === 'delta' && reading.server !== this.#server) {
      this.#isForeign = true
      return this.#read(patienceMs)
    }
    // Notifications that arrived meanwhile have overtaken this answer.
    const overtaken = this.view.version !== before && reading.version < this.view.version
    if (overtaken) return this.#request(hintSpreadMs)
    if (reading.version >= this.view.version) this.#currentAt = Math.max(this.#currentAt, startedAt)
    if (this.#gap === gap) this.#gap = null
    if (isForeign) this.#isForeign = false
    const isOneHistory = reading.server === this.#server
    if (reading.scope === 'full') this.#server = reading.server
    const first = this.view.version < 0n
    const happened = this.view.apply(reading, isOneHistory)
    this.#tell([
      ...(first ? [this.view.snapshot()] : happened),
      ...(gap === null ? [] : [{ type: 'resync' as const, version: reading.version, gapMs: gap.gapMs }]),
    ])
  }

  #tell(events: readonly ClusterEvent[]): void {
    if (events.length > 0) this.#options.onEvents(events)
  }
}
