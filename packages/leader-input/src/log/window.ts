/**
 * Snapshots and the windows between them, as `pg_snapshot` has them: transactions below `xmin` are over, those from
 * `xmax` on have not begun, `xip` are those in progress in between.
 */
export interface Snapshot {
  readonly xmin: bigint
  readonly xmax: bigint
  readonly xip: readonly bigint[]
}

/** Reads the text of a `pg_snapshot`: `xmin:xmax:xip,xip`. */
export function parseSnapshot(text: string): Snapshot {
  const [xmin = '', xmax = '', xip = ''] = text.split(':')
  return { xmin: BigInt(xmin), xmax: BigInt(xmax), xip: xip === '' ? [] : xip.split(',').map(BigInt) }
}

/** Writes it back. */
export function formatSnapshot({ xmin, xmax, xip }: Snapshot): string {
  return `${xmin}:${xmax}:${xip.join(',')}`
}

/** In this snapshot nothing is visible. */
export const emptySnapshot: Snapshot = { xmin: 3n, xmax: 3n, xip: [] }

/** Whether what this transaction wrote is visible, given that it did not roll back. */
export function isVisible(snapshot: Snapshot, xid: bigint): boolean {
  return xid < snapshot.xmin || (xid < snapshot.xmax && !snapshot.xip.includes(xid))
}

/** How the changes between two snapshots are found in the log. */
export interface WindowRange {
  /** Transactions from here ... */
  readonly fromXid: bigint
  /** ... to below here ... */
  readonly untilXid: bigint
  /** ... but for those that are still in progress at the end of the window ... */
  readonly inProgress: readonly bigint[]
  /** ... and those that were in progress at its beginning and are over at its end, each looked up by itself. */
  readonly late: readonly bigint[]
}

/**
 * What is visible in `next` and not in `prev`. Only transactions that were in progress in `prev` *and* are over in `next`
 * are looked up one by one: to look for all that were in progress costs tens of milliseconds a poll beside one big open
 * transaction.
 */
export function windowRange(prev: Snapshot, next: Snapshot): WindowRange {
  return {
    fromXid: prev.xmax,
    untilXid: next.xmax,
    inProgress: next.xip.filter((xid) => xid >= prev.xmax),
    late: prev.xip.filter((xid) => isVisible(next, xid)),
  }
}

/** Whether no transaction at all can be in the window. */
export function isEmpty({ fromXid, untilXid, inProgress, late }: WindowRange): boolean {
  return late.length === 0 && untilXid - fromXid <= BigInt(inProgress.length)
}
