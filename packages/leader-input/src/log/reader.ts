import type { Operation } from '../change-event.ts'
import type { Connection } from '../connections.ts'
import type { LoggedChange } from '../event.ts'
import { afterWindow, type Cursor, type PinnedWindow } from './cursor.ts'
import type { LogStatements } from './statements.ts'
import { formatSnapshot, isEmpty, parseSnapshot, type Snapshot, windowRange } from './window.ts'

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
 * @param before the number seen by an earlier statement: what began after `seen` draws higher ones
 */
export function windowUpTo(cursor: Cursor, seen: Probe, before: bigint): PinnedWindow {
  return { next: seen.snapshot, hi: seen.lastNumber, nextLo: before > cursor.lo ? before : cursor.lo, lastSeq: 0n }
}

/** Whether the log need not be asked. */
export function isEmptyWindow(cursor: Cursor, window: PinnedWindow): boolean {
  return isEmpty(windowRange(cursor.prev, window.next))
}

export interface PageLimits {
  readonly locations: readonly string[]
  readonly rows: number
  readonly bytes: number
}

/** The next page of a window. */
export async function readPage(
  connection: Connection,
  statements: LogStatements,
  cursor: Cursor,
  window: PinnedWindow,
  { locations, rows: limit, bytes }: PageLimits,
): Promise<Page> {
  const { fromXid, untilXid, inProgress, late } = windowRange(cursor.prev, window.next)
  let from = cursor.lo
  if (window.lastSeq > from) from = window.lastSeq
  const rows = await connection.rows(statements.page, [
    from.toString(),
    window.hi.toString(),
    fromXid.toString(),
    untilXid.toString(),
    inProgress.map(String),
    late.map(String),
    window.lastSeq.toString(),
    cursor.lineage,
    locations,
    limit,
    bytes,
  ])
  const total = Number(rows[0]?.[9] ?? 0)
  return { changes: rows.map(loggedChange), window, complete: total < limit && rows.length === total }
}

/** Where the cursor is when the changes up to this one have been handled. */
export function cursorAt(cursor: Cursor, page: Page, last: LoggedChange | undefined): Cursor {
  if (page.complete && (last === undefined || last === page.changes.at(-1))) return afterWindow(cursor, page.window)
  // A page of no rows that is not the end cannot be: a limit of rows is at least one.
  return last === undefined ? cursor : { ...cursor, pinned: { ...page.window, lastSeq: last.seq } }
}

export function loggedChange(row: readonly unknown[]): LoggedChange {
  const [seq, xid, location, operation, key, oldKey, before, after, atMicros] = row as (string | null)[]
  return {
    seq: BigInt(seq ?? 0),
    xid: BigInt(xid ?? 0),
    location: location ?? '',
    operation: operation as Operation,
    key: key ?? null,
    oldKey: oldKey ?? null,
    before: before ?? null,
    after: after ?? null,
    atMicros: atMicros ?? '0',
  }
}

/** Parameters of the statement `move`. */
export function moveValues(name: string, epoch: bigint, revision: bigint, cursor: Cursor): unknown[] {
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
  ]
}
