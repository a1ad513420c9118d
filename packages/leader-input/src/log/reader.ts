import type { Operation } from '../change-event.ts'
import { type Connection, pageTimeoutMs } from '../connection.ts'
import { keyIdentity, type LoggedChange } from '../event.ts'
import { keyOf, parseSource, rowOf, type Source } from '../logged-row.ts'
import { afterWindow, type Cursor, type PinnedWindow } from './cursor.ts'
import type { LogStatements } from './statements.ts'
import { formatSnapshot, isEmpty, parseSnapshot, type Snapshot, windowRange } from './window.ts'

/** What decides which changes the next page of a window holds. */
export interface PagePlace {
  readonly cursor: Pick<Cursor, 'prev' | 'lo' | 'lineage'>
  readonly window: PinnedWindow
  readonly locations: readonly string[]
}

/** What one look at the server says. */
export interface Probe {
  readonly snapshot: Snapshot
  /** No number above this one is visible in the snapshot. */
  readonly lastNumber: bigint
}

/** A piece of a window, in order. */
export interface Page {
  readonly changes: readonly LoggedChange[]
  readonly window: PinnedWindow
  /** Whether the window ends with this page. */
  readonly complete: boolean
}

export async function probe(connection: Connection, statements: LogStatements): Promise<Probe> {
  const [row] = await connection.rows(statements.probe)
  return { snapshot: parseSnapshot(String(row?.[0])), lastNumber: BigInt(String(row?.[1])) }
}

/**
 * The window that ends where `seen` looked.
 * @param before a number as `numberBound` gives it: whoever is at or above the `xmax` of `seen` draws higher ones
 */
export function windowUpTo(cursor: Cursor, seen: Probe, before: bigint): PinnedWindow {
  return { next: seen.snapshot, hi: seen.lastNumber, nextLo: before > cursor.lo ? before : cursor.lo, lastSeq: 0n }
}

/** Whether the log need not be asked. */
export function isEmptyWindow(cursor: Cursor, window: PinnedWindow): boolean {
  return isEmpty(windowRange(cursor.prev, window.next))
}

export interface PageLimits {
  readonly rows: number
  readonly bytes: number
  /** The last page ended at its bytes: this one is likely to. */
  readonly likelyLarge: boolean
}

/** The next page of a window. */
export async function readPage(
  connection: Connection,
  statements: LogStatements,
  { cursor, window, locations }: PagePlace,
  { rows: limit, bytes, likelyLarge }: PageLimits,
): Promise<Page> {
  const { fromXid, untilXid, inProgress, late } = windowRange(cursor.prev, window.next)
  let from = cursor.lo
  if (window.lastSeq > from) from = window.lastSeq
  const range = [
    from.toString(),
    window.hi.toString(),
    fromXid.toString(),
    untilXid.toString(),
    inProgress.map(String),
    cursor.lineage,
    locations,
    limit,
  ]
  const ofLate = [late.map(String), window.lastSeq.toString()]
  if (!likelyLarge) {
    // Where both rows of every change are this small, a whole page is within its bytes and nobody has to add them up.
    const small = Math.floor(bytes / limit / 2)
    const rows =
      late.length === 0
        ? await connection.texts(statements.page, [...range, small], pageTimeoutMs)
        : await connection.texts(statements.latePage, [...range, small, ...ofLate], pageTimeoutMs)
    const large = rows.findIndex((row) => row[3] === null)
    if (large === -1) return { changes: loggedChanges(rows), window, complete: rows.length < limit }
    if (large > 0) return { changes: loggedChanges(rows.slice(0, large)), window, complete: false }
  }
  const rows = await connection.texts(statements.sizedPage, [...range, bytes, ...ofLate], pageTimeoutMs)
  const total = Number(rows[0]?.[7] ?? 0)
  return { changes: loggedChanges(rows), window, complete: total < limit && rows.length === total }
}

/** Where the cursor is when the changes up to this one have been handled. */
export function cursorAt(cursor: Cursor, page: Page, last: LoggedChange | undefined): Cursor {
  if (page.complete && (last === undefined || last === page.changes.at(-1))) return afterWindow(cursor, page.window)
  // A page of no rows that is not the end cannot be: a limit of rows is at least one.
  return last === undefined ? cursor : { ...cursor, pinned: { ...page.window, lastSeq: last.seq } }
}

/** Rows of the log by the order of its columns in the statements. Few sources are in many rows. */
export function loggedChanges(rows: readonly (readonly unknown[])[]): LoggedChange[] {
  const sources = new Map<string, Source>()
  return (rows as readonly (readonly (string | null)[])[]).map((row) => {
    const text = row[2] ?? ''
    const source = sources.get(text) ?? parseSource(text)
    sources.set(text, source)
    return new LoggedRow(row, source)
  })
}

/** Looks into the row that the driver made, instead of making another of each. */
class LoggedRow implements LoggedChange {
  readonly #row: readonly (string | null)[]
  readonly #source: Source

  constructor(row: readonly (string | null)[], source: Source) {
    this.#row = row
    this.#source = source
  }

  get seq(): bigint {
    return BigInt(this.#row[0] ?? 0)
  }

  get xid(): bigint {
    return BigInt(this.#row[1] ?? 0)
  }

  get location(): string {
    return this.#source.location
  }

  get operation(): Operation {
    return this.#row[3] as Operation
  }

  get key(): string | null {
    return keyOf(this.#row[5] ?? this.#row[4] ?? null, this.#source.keyColumns)
  }

  get oldKey(): string | null {
    if (this.operation !== 'update') return null
    const was = keyOf(this.#row[4] ?? null, this.#source.keyColumns)
    return keyIdentity(was) === keyIdentity(this.key) ? null : was
  }

  get before(): string | null {
    return rowOf(this.#row[4] ?? null)
  }

  get after(): string | null {
    return rowOf(this.#row[5] ?? null)
  }

  get atMicros(): string {
    return this.#row[6] ?? '0'
  }
}

/** What whoever moves the cursor takes for given. */
export interface Mover {
  readonly epoch: bigint
  readonly revision: bigint
  /** What is installed for the input, as `Drift` has it. */
  readonly installed: readonly string[]
}

/** Parameters of the statement `move`. */
export function moveValues(name: string, { epoch, revision, installed }: Mover, cursor: Cursor): unknown[] {
  const { prev, lo, pinned, ownXids, backfill, lineage } = cursor
  return [
    name,
    epoch.toString(),
    revision.toString(),
    formatSnapshot(prev),
    lo.toString(),
    pinned === null ? null : formatSnapshot(pinned.next),
    pinned?.lastSeq.toString() ?? null,
    pinned?.hi.toString() ?? null,
    pinned?.nextLo.toString() ?? null,
    ownXids.map(String),
    backfill === null ? null : JSON.stringify(backfill),
    lineage,
    installed,
  ]
}
