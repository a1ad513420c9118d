import { setTimeout as delay } from 'node:timers/promises'
import { FeedGapError, FencedError, type Lock, type Logger } from '@x/lock-core'
import type { KyselyPlugin } from 'kysely'
import type { CaptureStatements } from './capture/statements.ts'
import type { CapturedTable } from './capture/tables.ts'
import { triggerPrefix } from './capture/triggers.ts'
import type { Operation } from './change-event.ts'
import type { Connection, Connections } from './connections.ts'
import { FeedEvent, type FollowedTable, type LoggedChange } from './event.ts'
import type { BatchContext } from './handling/batch.ts'
import { BlockedKeys } from './handling/blocked-keys.ts'
import type { HandOver } from './handling/hand-over.ts'
import type { ParkStatements } from './handling/statements.ts'
import type { HealthRecord } from './health.ts'
import { endAbandoned, refuseOtherServer } from './leadership.ts'
import type { Cursor, StoredCursor } from './log/cursor.ts'
import { moveValues } from './log/reader.ts'
import type { LogStatements } from './log/statements.ts'
import type { UpkeepStatements } from './log/upkeep-statements.ts'
import type { ChangeHandler, ResolvedOptions } from './options.ts'
import { rowFormat } from './row-format.ts'
import type { WakeUp } from './wake-up.ts'

/** What outlives a term. */
export interface InputParts<DB> {
  readonly connections: Connections
  readonly options: ResolvedOptions & { readonly logger: Logger | undefined }
  readonly plugins: readonly KyselyPlugin[]
  readonly log: LogStatements
  readonly capture: CaptureStatements
  readonly parking: ParkStatements
  readonly upkeep: UpkeepStatements
  readonly health: HealthRecord
  readonly handler: ChangeHandler<DB>
  /** Where events go one by one instead; null for the handler. */
  readonly handOver: HandOver | null
  readonly wakeUp: WakeUp
  /** Whether the caller has called pause(). */
  isPaused(): boolean
}

/** One time of leading: from the epoch taken to the lock lost, the caller's end, or a failed connection. */
export class Term<DB> {
  readonly options: InputParts<DB>['options']
  readonly parking: ParkStatements
  readonly parts: InputParts<DB>
  readonly signal: AbortSignal
  blocked: BlockedKeys = new BlockedKeys()
  /** What this leader knows to be installed, as `Drift` has it. */
  installed: readonly string[] = []
  readonly #lock: Lock
  readonly #stored: StoredCursor
  #cursor: Cursor
  #connection: Connection
  #followed: ReadonlyMap<string, FollowedTable> = new Map()
  #tables: ReadonlyMap<string, CapturedTable> = new Map()
  #delivered = 0
  #isOver = false
  readonly #triggers: Readonly<Record<Exclude<Operation, 'read'>, string>>

  constructor(parts: InputParts<DB>, lock: Lock, connection: Connection, stored: StoredCursor, signal: AbortSignal) {
    this.parts = parts
    this.options = parts.options
    this.parking = parts.parking
    this.signal = signal
    this.#lock = lock
    this.#connection = connection
    this.#stored = stored
    this.#cursor = stored
    const prefix = triggerPrefix(parts.options.schema)
    this.#triggers = {
      create: `${prefix}create`,
      update: `${prefix}update`,
      delete: `${prefix}delete`,
      truncate: `${prefix}truncate`,
    }
  }

  get cursor(): Cursor {
    return this.#cursor
  }

  get epoch(): bigint {
    return this.#stored.epoch
  }

  get locations(): readonly string[] {
    return [...this.#followed.keys()]
  }

  /** Events handled so far. */
  get delivered(): number {
    return this.#delivered
  }

  get isOver(): boolean {
    // For good: what was left undone when it was seen is not taken up again.
    this.#isOver ||= this.signal.aborted || !this.#lock.isHeld()
    return this.#isOver
  }

  /** The lock is held, whether or not the caller wants to stop. */
  get isLeading(): boolean {
    return this.#lock.isHeld()
  }

  /** The term's connection; a new one when the handler has cost it the last. */
  async connection(): Promise<Connection> {
    if (this.#connection.isReleased) {
      const { backend } = this.#connection
      this.#connection = await this.parts.connections.connect()
      await endAbandoned(this.#connection, this.parts.log, this.options.name, backend)
    }
    return this.#connection
  }

  /** Ends what is under way: the lock is gone, and every answer comes too late. */
  abandon(): void {
    this.#connection.release(true)
  }

  release(): void {
    this.#connection.release()
  }

  async batchContext(): Promise<BatchContext<DB>> {
    const { log, parking, options, plugins, handler } = this.parts
    return {
      connection: await this.connection(),
      log,
      parking,
      options,
      plugins,
      handler,
      lock: this.#lock,
      epoch: this.epoch,
      revision: this.#stored.revision,
      installed: this.installed,
      lineage: this.#cursor.lineage,
      signal: this.signal,
    }
  }

  /** Refuses to go on where going on would lose or invent changes silently. */
  check(): FeedGapError | null {
    const { gap } = this.#stored
    refuseOtherServer(this.options.name, this.#stored)
    if (gap === null) return null
    return new FeedGapError(
      `input ${this.options.name}: changes ${gap.fromSeq} to ${gap.toSeq} were dropped over the retention cap before they were handled; rebuild what depends on them, then seek('now') or seek('start')`,
      gap,
    )
  }

  /** The cursor has moved, and the database agrees. */
  moved(cursor: Cursor, events: number): void {
    this.#cursor = cursor
    this.#delivered += events
  }

  /** Nothing was there to handle: the cursor is ahead of the one in the database, which follows with the next batch. */
  advance(cursor: Cursor): void {
    this.#cursor = cursor
  }

  /** Keeps a lease of a locker that does not renew one whose ttl it was given; of the others nothing is ever so far gone. */
  async keepLease(): Promise<void> {
    if (this.#lock.remainingMs() < this.#lock.ttlMs / 2) await this.#lock.refresh()
  }

  /** @throws {FencedError} when the cursor is not where this term left it: it is read anew by the next one */
  async assertUnmoved(): Promise<void> {
    const [row] = await (await this.connection()).rows(this.parts.log.revision, [this.options.name])
    if (String(row?.[0]) !== String(this.epoch) || String(row?.[1]) !== String(this.#stored.revision)) {
      throw new FencedError(`input ${this.options.name}: epoch ${this.epoch} is over, or somebody moved the cursor`)
    }
  }

  /** Makes the database agree without a batch. */
  async store(): Promise<void> {
    const connection = await this.connection()
    const moved = await connection.rows(
      this.parts.log.move,
      moveValues(
        this.options.name,
        { epoch: this.epoch, revision: this.#stored.revision, installed: this.installed },
        this.#cursor,
      ),
    )
    if (moved.length === 0)
      throw new FencedError(
        `input ${this.options.name}: epoch ${this.epoch} is over, or somebody moved the cursor or installed something`,
      )
  }

  /** An event of a change that this input follows; null for any other. */
  eventOf(change: LoggedChange, keySuffix?: string): FeedEvent | null {
    const followed = this.#followed.get(change.location)
    if (followed === undefined) return null
    // Only a parked one comes here: a backfill makes its own.
    if (change.operation === 'read') return new FeedEvent(this.options.name, change, followed, 'backfill', keySuffix)
    if (!followed.operations.has(change.operation)) return null
    const { ownXids } = this.#cursor
    if (ownXids.length > 0 && !this.options.ownChanges && ownXids.includes(change.xid)) return null
    return new FeedEvent(this.options.name, change, followed, this.#triggers[change.operation])
  }

  /** The catalog's side of a table. */
  table(location: string): CapturedTable | undefined {
    return this.#tables.get(location)
  }

  followed(location: string): FollowedTable | undefined {
    return this.#followed.get(location)
  }

  /** Takes in what the catalog says of the tables. */
  async follow(tables: readonly CapturedTable[]): Promise<void> {
    const connection = await this.connection()
    const rows = await connection.rows(this.parts.log.columnTypes, [tables.map((table) => table.oid)])
    this.#tables = new Map(tables.map((table) => [table.location, table]))
    this.#followed = new Map(
      tables.map(({ oid, location, name, wish }) => {
        const columns = rows.filter((row) => row[0] === oid)
        const exact = columns.filter((row) => row[2] === 'true').map((row) => String(row[1]))
        return [
          location,
          {
            name,
            location,
            operations: new Set<string>(wish.operations),
            columns: wish.columns === null ? null : new Set(wish.columns),
            schema: wish.schema,
            format: rowFormat(
              exact,
              columns.every((row) => row[3] === 'true'),
            ),
          },
        ]
      }),
    )
  }

  async readBlocked(): Promise<void> {
    const rows = await (await this.connection()).rows(this.parking.blocked, [this.options.name])
    const blocked = new BlockedKeys()
    for (const [location, operation, key, oldKey] of rows as (string | null)[][]) {
      blocked.block({
        location: location ?? '',
        operation: operation as LoggedChange['operation'],
        key: key ?? null,
        oldKey: oldKey ?? null,
      })
    }
    this.blocked = blocked
  }

  succeeded(): void {
    const { health } = this.parts
    health.status = 'leading'
    health.lastError = null
  }

  failed(cause: unknown, finally_: boolean): void {
    this.parts.health.lastError = cause
    this.options.logger?.[finally_ ? 'error' : 'warn']({ input: this.options.name, err: cause }, 'the handler failed')
  }

  halted(error: unknown): void {
    const { health } = this.parts
    health.status = 'halted'
    health.lastError = error
  }

  /** Waits between transactions, and does what else is due meanwhile; ends early when the term does. */
  async pause(ms: number): Promise<void> {
    const until = performance.now() + ms
    do {
      // In steps: a lock with a lease ends silently.
      await delay(Math.min(100, Math.max(0, until - performance.now())), undefined, {
        signal: this.signal,
        ref: true,
      }).catch(() => {})
      if (!this.isOver) await this.breathe()
    } while (!this.isOver && performance.now() < until)
  }

  /** Does what is due besides handling. Outside of transactions only. */
  breathe: () => Promise<void> = async () => {}

  async whenResumed(): Promise<void> {
    while (this.parts.isPaused() && !this.isOver) await this.pause(50)
  }
}
