import { emptySnapshot, isVisible, parseSnapshot, type Snapshot } from './window.ts'

/** Where an input stands. */
export interface Cursor {
  /** What is visible here has been handled. */
  readonly prev: Snapshot
  /** Numbers up to this one were drawn before `prev` was taken. */
  readonly lo: bigint
  /** The window whose first batches have been handled; null between windows. */
  readonly pinned: PinnedWindow | null
  /** Transactions in which the handler itself changed captured tables, newest last. */
  readonly ownXids: readonly bigint[]
  readonly backfill: BackfillPosition | null
  /** Transaction ids are compared within one lineage only; a rebase begins the next. */
  readonly lineage: number
}

/** The end of a window, and how far its batches have come. */
export interface PinnedWindow {
  readonly next: Snapshot
  /** Numbers of what is visible in `next` are not above this one. */
  readonly hi: bigint
  /** `lo` once `next` is `prev`. */
  readonly nextLo: bigint
  /** Last number handled. */
  readonly lastSeq: bigint
}

/** How far a backfill has come: the tables still to read, the first of them from behind `after` on. */
export interface BackfillPosition {
  readonly tables: readonly string[]
  /** Key of the last row read of the first table, as text; null at its beginning. */
  readonly after: readonly string[] | null
  /** Chunks read so far. */
  readonly chunks: number
}

/** The cursor as it stands in the database, with what its leader must know besides. */
export interface StoredCursor extends Cursor {
  readonly epoch: bigint
  readonly revision: bigint
  readonly gap: { readonly fromSeq: bigint; readonly toSeq: bigint } | null
  /** The log was written by this server, or by one that it descends from. */
  readonly sameServer: boolean
}

/** In this snapshot a whole lineage is visible: its window ends where the next lineage begins. */
export const endOfLineage = '9223372036854775807:9223372036854775807:'
const lastXid = 9223372036854775807n

/** The cursor once its pinned window has been handled to the end. */
export function afterWindow(cursor: Cursor, { next, nextLo, hi }: PinnedWindow): Cursor {
  const { backfill, lineage } = cursor
  if (nextLo < 0n) {
    // Rebased within a window: when it is done, what is left of the lineage is one more.
    const rest = { next: parseSnapshot(endOfLineage), lastSeq: 0n, hi, nextLo: 0n }
    return { prev: next, lo: 0n, pinned: rest, ownXids: [], backfill, lineage }
  }
  if (next.xmax === lastXid) {
    return { prev: emptySnapshot, lo: 0n, pinned: null, ownXids: [], backfill, lineage: lineage + 1 }
  }
  return {
    prev: next,
    lo: nextLo,
    pinned: null,
    // Those visible by now were in the windows so far and have been passed over.
    ownXids: cursor.ownXids.filter((xid) => !isVisible(next, xid)),
    backfill,
    lineage,
  }
}

/** Columns in the order of `cursorColumns` in the statements. */
export function parseCursor(row: readonly unknown[]): StoredCursor {
  const [epoch, revision, prev, lo, next, lastSeq, hi, nextLo, ownXids, lineage, gapFrom, gapTo, backfill, sameServer] =
    row as (string | null)[]
  return {
    epoch: BigInt(epoch ?? 0),
    revision: BigInt(revision ?? 0),
    prev: parseSnapshot(prev ?? ''),
    lo: BigInt(lo ?? 0),
    pinned:
      next === null || next === undefined
        ? null
        : {
            next: parseSnapshot(next),
            lastSeq: BigInt(lastSeq ?? 0),
            hi: BigInt(hi ?? 0),
            nextLo: BigInt(nextLo ?? 0),
          },
    ownXids: (ownXids ?? '').split(',').filter(Boolean).map(BigInt),
    lineage: Number(lineage),
    gap: gapFrom == null ? null : { fromSeq: BigInt(gapFrom), toSeq: BigInt(gapTo ?? gapFrom) },
    backfill: backfill == null ? null : (JSON.parse(backfill) as BackfillPosition),
    sameServer: sameServer === 'true',
  }
}
