import type { Locker, LockStatus } from '@x/lock-core'
import type { ListFilter } from './admin.ts'
import { LeaseLocker } from './lease-locker.ts'
import { resolveOptions, type TableLockerOptions } from './options.ts'

/** A locker on a table of leases, and what operators do with it. */
export interface TableLocker extends Locker {
  /** Keys and who has them, in the order of the keys. */
  list(filter?: ListFilter): Promise<readonly LockStatus[]>
  /**
   * Takes the key away: the holder's next renewal is refused and its signal aborts with reason `forced`; the key is granted
   * to the next when the lease would have ended. True if it was held.
   *
   * `immediate` frees it at once: until the old holder hears of it, at its next renewal, there are two. Fence your writes.
   * What an old writer of an adopted table holds has no lease and is freed at once either way.
   */
  forceRelease(key: string, options?: { immediate?: boolean | undefined }): Promise<boolean>
  /**
   * Deletes rows of keys that have been free for so many milliseconds, and what dead processes left behind. Fencing tokens
   * of a key that comes back are higher all the same. Resolves to the number of keys.
   */
  prune(olderThanMs: number): Promise<number>
}

/**
 * Locks as leases in a table: each grant has a fencing token and ends by itself when its holder does not renew it. Every
 * statement is a transaction of its own, so it works through any pooler. Run `migrate(pool)` first.
 *
 * @throws {ConfigurationError}
 * @example
 * const locker = createTableLocker({ pool })
 * await withLock(locker, 'report', async (lock) => {
 *   await writeReport({ fence: lock.fencingToken, signal: lock.signal })
 * })
 */
export function createTableLocker(options?: TableLockerOptions): TableLocker {
  return new LeaseLocker(resolveOptions(options, process.env))
}
