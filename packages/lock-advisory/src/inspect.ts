import type { LockHolder, LockMode, LockStatus } from '@x/lock-core'
import type { AdvisoryLock } from './advisory-lock.ts'

/** A row of pg_locks with what is known of its backend; columns as in the statements. */
export type StatusRow = readonly [
  id: string,
  /** 1 is the bigint space, where locks live; 2 the (int4, int4) space, where interest does. */
  objsubid: number,
  granted: boolean,
  mode: string,
  pid: number,
  applicationName: string | null,
  address: string | null,
  port: number | null,
  sessionId: string | null,
]

/** The locks of one session of this locker under an id. */
export interface OwnLock {
  readonly pid: number
  readonly locks: readonly AdvisoryLock[]
}

/** An advisory lock of the database. */
export type ListedLock = LockStatus & {
  /** Its id in the bigint space. */
  readonly lockId: bigint
  /** Keys under which this locker holds it or waits for it: two when two names have one id, none when it is not ours. */
  readonly names: readonly string[]
}

const locks = 1

/** What the server says, with what this locker knows of its own locks besides. */
export function statusOf(
  key: string,
  rows: readonly StatusRow[],
  own: readonly OwnLock[],
  localWaiters: number,
): LockStatus {
  const holders = rows
    .filter(([, objsubid, granted]) => objsubid === locks && granted)
    .flatMap((row) => holdersOf(row, own))
  const [first] = holders
  const foreign = rows.filter(([, , , , pid]) => !own.some((session) => session.pid === pid))
  const blocked = foreign.filter(([, objsubid, granted]) => objsubid === locks && !granted)
  // A releaser's probe looks like interest, but for its mode.
  const interested = foreign.filter(
    ([, objsubid, granted, mode]) => objsubid !== locks && granted && mode === 'ShareLock',
  )
  return {
    key,
    isAcquired: first !== undefined,
    mode: first?.mode ?? null,
    sessionId: first?.sessionId ?? null,
    acquirerName: first?.acquirerName ?? null,
    acquirerAddress: first?.acquirerAddress ?? null,
    acquiredAt: first?.acquiredAt ?? null,
    expiresAt: first?.expiresAt ?? null,
    fencingToken: first?.fencingToken ?? null,
    metadata: first?.metadata ?? null,
    waiters: blocked.length + interested.length + localWaiters,
    holders,
  }
}

/** All ids that are locked or waited for. */
export function listLocks(
  rows: readonly StatusRow[],
  names: ReadonlyMap<string, ReadonlySet<string>>,
  own: (id: string) => readonly OwnLock[],
  localWaiters: (id: string) => number,
): ListedLock[] {
  const byId = Map.groupBy(rows, ([id]) => id)
  // Interest alone is no lock, and ids in its space are halves that may be anybody's.
  const locked = [...byId].filter(([, of]) => of.some(([, objsubid]) => objsubid === locks))
  return locked.map(([id, of]) => {
    const known = [...(names.get(id) ?? [])]
    return { ...statusOf(known[0] ?? id, of, own(id), localWaiters(id)), lockId: BigInt(id), names: known }
  })
}

function holdersOf(row: StatusRow, own: readonly OwnLock[]): LockHolder[] {
  const [, , , mode, pid, applicationName, address, port, sessionId] = row
  const seen = {
    mode: modeOf(mode),
    sessionId,
    acquirerName: applicationName,
    acquirerAddress: address === null ? null : `${address}:${port}`,
    pid,
  }
  const mine = own.find((session) => session.pid === pid)?.locks ?? []
  if (mine.length === 0) return [{ ...seen, acquiredAt: null, expiresAt: null, fencingToken: null, metadata: null }]
  return mine.map((lock) => {
    const remainingMs = lock.remainingMs()
    return {
      ...seen,
      acquiredAt: lock.acquiredAt,
      expiresAt: remainingMs === Number.POSITIVE_INFINITY ? null : new Date(Date.now() + remainingMs),
      fencingToken: lock.fencingToken,
      metadata: lock.grant.metadata,
    }
  })
}

function modeOf(mode: string): LockMode {
  return mode === 'ShareLock' ? 'shared' : 'exclusive'
}
