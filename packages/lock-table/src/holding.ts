import type { Logger } from '@x/lock-core'
import { type LockFamily, LockHandle, type ResolvedAcquireOptions } from '@x/lock-core/adapter'
import type { Acquired } from './acquiring.ts'
import { checkFinite, type LeaseGrant, nameOf } from './lease.ts'
import type { Line } from './line/line.ts'
import type { Releasing } from './releasing.ts'
import type { Renewer } from './renewer.ts'

interface Parts {
  readonly renewer: Renewer
  readonly releasing: Releasing
  readonly line: Line
  readonly logger: Logger | undefined
}

/** The leases that a locker holds: kept alive as long as they are, and given back when they are not any more. */
export class Holding {
  readonly #parts: Parts
  readonly #family: LockFamily<LeaseGrant>
  readonly #held = new Set<LockHandle<LeaseGrant>>()
  #closed = false

  constructor(parts: Parts) {
    this.#parts = parts
    const { renewer, releasing, logger } = parts
    this.#family = {
      logger,
      unrenewed: ({ grant }) => grant.failure,
      hooks: {
        release: (lock, keepMs) => this.#release(lock, keepMs),
        refresh: (lock, ttlMs) => renewer.refresh(lock, checkFinite(ttlMs)),
        lost: (lock, { reason }) => {
          this.#forget(lock)
          // The database still counts it as held; what it protected has been told to stop.
          if (reason === 'max-hold' || reason === 'closed') releasing.abandon(nameOf(lock))
        },
      },
    }
  }

  /** The lock of a grant; lost from the start when it comes after {@link close}. */
  hold({ request, grant }: Acquired, { maxHoldMs, minHoldMs, renew }: ResolvedAcquireOptions): LockHandle<LeaseGrant> {
    const lock = new LockHandle<LeaseGrant>(
      {
        key: request.key,
        mode: request.mode,
        fencingToken: grant.token,
        sessionId: request.owner,
        acquiredAtMs: grant.acquiredAtMs,
        startedAt: grant.startedAt,
        ttlMs: request.ttlMs,
        // A claim may be longer than a short ttl.
        leaseMs: Math.min(grant.leaseMs, request.ttlMs),
        maxHoldMs,
        minHoldMs,
        grant: {
          renewAt: Number.POSITIVE_INFINITY,
          refreshing: false,
          failure: undefined,
          claim: null,
          handedOver: grant.handedOver,
        },
      },
      this.#family,
    )
    this.#held.add(lock)
    const { renewer } = this.#parts
    if (this.#closed) lock.lose('closed')
    else if (lock.grant.handedOver) renewer.confirm(lock, renew === 'auto')
    else if (renew === 'auto') renewer.add(lock)
    return lock
  }

  /** Every lock is lost, and given back. */
  close(): void {
    this.#closed = true
    for (const lock of [...this.#held]) lock.lose('closed')
    this.#parts.renewer.close()
  }

  #release(lock: LockHandle<LeaseGrant>, keepMs: number): Promise<void> {
    this.#forget(lock)
    const { line, releasing } = this.#parts
    if (keepMs > 0) return releasing.keep(nameOf(lock), Math.ceil(keepMs))
    const lined = lock.grant.handedOver || line.waiting(lock.key) > 0
    return releasing.release({ ...nameOf(lock), lined })
  }

  #forget(lock: LockHandle<LeaseGrant>): void {
    this.#held.delete(lock)
    this.#parts.renewer.remove(lock)
  }
}
