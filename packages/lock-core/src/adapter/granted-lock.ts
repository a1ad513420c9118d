import type { LockMode } from '../locker.ts'

/** One grant, as the store made it. */
export interface GrantedLock<Grant> {
  readonly key: string
  readonly mode: LockMode
  readonly fencingToken: bigint | null
  readonly sessionId: string
  /** When the store granted it, in milliseconds since the Unix epoch. */
  readonly acquiredAtMs: number
  /** The clock's `now()` from before the request was sent. */
  readonly startedAt: number
  readonly ttlMs: number
  /**
   * Milliseconds of the first lease, where it is not the whole ttl: a waiter that was handed the lock renews it afterwards.
   * @default ttlMs
   */
  readonly leaseMs?: number | undefined
  /** @default Infinity */
  readonly maxHoldMs?: number | undefined
  /** @default 0 */
  readonly minHoldMs?: number | undefined
  /** What the adapter needs to find this grant again, and no other: an owner unique to the grant. */
  readonly grant: Grant
}
