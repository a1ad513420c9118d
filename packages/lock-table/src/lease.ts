import { ConfigurationError, type LockMode } from '@x/lock-core'
import type { LockHandle, Timer } from '@x/lock-core/adapter'

/** What is left of a hand-off: a lease of the claim time. */
type Claim =
  /** To be renewed when the timer fires, if the lock is still held then. */
  | { readonly kind: 'due'; readonly timer: Timer }
  /** Being renewed. */
  | { readonly kind: 'sent'; readonly done: Promise<void> }

/** What a lock of this package carries besides what every lock has. */
export interface LeaseGrant {
  /** When the next renewal is due, on the monotonic clock. */
  renewAt: number
  /** A refresh by the holder is on its way. */
  refreshing: boolean
  /** What the last renewal met, since the one before it was confirmed. */
  failure: unknown
  /** The claim of a lock that was handed over, until it has been turned into a lease of its ttl. */
  claim: Claim | null
  /** It came out of a line, where others may stand. */
  readonly handedOver: boolean
}

/** Names one grant, and no other: a late request for an earlier grant of the key touches nothing. */
export interface LeaseName {
  readonly key: string
  readonly mode: LockMode
  readonly owner: string
  /** Null where the answer with the token was lost: key and owner name the grant as well. */
  readonly token: bigint | null
  /** Others are likely to stand in line: the plain release, which is for keys without a line, would be in vain. */
  readonly lined?: boolean
}

/** What names the grant of a lock. */
export const nameOf = (lock: LockHandle<LeaseGrant>): LeaseName => ({
  key: lock.key,
  mode: lock.mode,
  owner: lock.sessionId,
  token: lock.fencingToken,
})

/** A lease must end by itself; `renew: 'auto'` keeps it for as long as the process lives. */
export const checkFinite = (ttlMs: number): number => {
  if (Number.isFinite(ttlMs) && ttlMs <= 2_147_483_647) return Math.ceil(ttlMs)
  throw new ConfigurationError(
    `option ttlMs: expected at most ${2_147_483_647} ms, because a lease must end when its process does; got ${ttlMs}; renewals keep it for as long as the process lives`,
    { option: 'ttlMs' },
  )
}
