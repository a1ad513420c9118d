import { LockNotHeldError, type Logger } from '@x/lock-core'
import {
  type Coalescer,
  createCoalescer,
  type LockHandle,
  monotonicNow,
  systemClock,
  type Timer,
} from '@x/lock-core/adapter'
import { plainArray, textArray } from './array-literal.ts'
import type { LeaseGrant } from './lease.ts'
import { isTransient, type LockStore, statementTimeoutMs } from './store.ts'

type Lease = LockHandle<LeaseGrant>

interface Renewal {
  readonly lease: Lease
  readonly ttlMs: number
  /** May shorten the lease: asked for by the holder. */
  readonly exact: boolean
  /** Until when an answer is of use, on the monotonic clock. */
  readonly until: number
}

interface Renewed {
  readonly renewed: boolean
  readonly startedAt: number
}

/** Renewed at this part of the ttl, so that two more attempts fit before the lease is over. */
const renewAt = 1 / 3

const largestBatch = 20_000

/**
 * Keeps leases alive: one statement for all that are due, whatever their number. An answer that was lost is asked for again
 * until the lease's local deadline, and not given up before.
 */
export class Renewer {
  readonly #store: LockStore
  readonly #logger: Logger | undefined
  readonly #leases = new Set<Lease>()
  readonly #renewals: Readonly<Record<Lease['mode'], Coalescer<Renewal, Renewed>>>
  #timer: { readonly at: number; readonly timer: Timer } | null = null

  constructor(store: LockStore, logger: Logger | undefined) {
    this.#store = store
    this.#logger = logger
    const coalesce = (mode: Lease['mode']): Coalescer<Renewal, Renewed> =>
      createCoalescer({
        // Renewals of one lease never overtake each other, and one of many never locks a row twice.
        identityOf: ({ lease }) => lease.sessionId,
        maxBatch: largestBatch,
        run: (batch) => this.#send(mode, batch),
      })
    this.#renewals = { exclusive: coalesce('exclusive'), shared: coalesce('shared') }
  }

  get size(): number {
    return this.#leases.size
  }

  /** Takes over the renewal of the lease. @param inMs when its first renewal is due */
  add(lease: Lease, inMs: number = lease.ttlMs * renewAt): void {
    this.#leases.add(lease)
    lease.grant.renewAt = monotonicNow() + inMs
    this.#wakeAt(lease.grant.renewAt)
  }

  /** Turns the claim of a lock that was handed over into a lease of its ttl, at once and off the caller's path. */
  confirm(lease: Lease, goOn: boolean): void {
    if (goOn) this.add(lease)
    void this.#renew(lease)
  }

  remove(lease: Lease): void {
    this.#leases.delete(lease)
    if (this.#leases.size === 0) this.#sleep()
  }

  /**
   * One renewal, by the holder's wish.
   * @throws {LockNotHeldError} when the database says that the lease is over
   */
  async refresh(lease: Lease, ttlMs: number): Promise<void> {
    await this.#store.admit(ttlMs)
    const { renewed } = await this.#untilDeadline({ lease, ttlMs, exact: true, until: untilDeadline(lease) })
    if (!renewed) throw new LockNotHeldError({ key: lease.key, operation: 'refresh' })
    lease.grant.renewAt = monotonicNow() + ttlMs * renewAt
    if (this.#leases.has(lease)) this.#wakeAt(lease.grant.renewAt)
  }

  /**
   * Lets the lease of a released lock run on for so long, and end then.
   * @throws {LockNotHeldError} when the database says that it is over
   */
  async keep(lease: Lease, keepMs: number): Promise<void> {
    const until = monotonicNow() + statementTimeoutMs
    const { renewed } = await this.#untilDeadline({ lease, ttlMs: keepMs, exact: true, until })
    if (!renewed) throw new LockNotHeldError({ key: lease.key, operation: 'release' })
  }

  close(): void {
    this.#leases.clear()
    this.#sleep()
  }

  #wakeAt(at: number): void {
    if (this.#timer !== null && this.#timer.at <= at) return
    this.#timer?.timer.cancel()
    const delayMs = Math.max(0, at - monotonicNow())
    this.#timer = { at, timer: systemClock.schedule(() => this.#wake(), delayMs * (1 - Math.random() * 0.15)) }
  }

  #sleep(): void {
    this.#timer?.timer.cancel()
    this.#timer = null
  }

  /** Renews what is due, and along with it what will be due within half an interval: leases of one ttl fall into step. */
  #wake(): void {
    this.#timer = null
    const now = monotonicNow()
    let next = Number.POSITIVE_INFINITY
    for (const lease of this.#leases) {
      if (!lease.isHeld()) {
        this.#leases.delete(lease)
        continue
      }
      const intervalMs = lease.ttlMs * renewAt
      if (lease.grant.renewAt <= now + intervalMs / 2) {
        lease.grant.renewAt = now + intervalMs
        void this.#renew(lease)
      }
      next = Math.min(next, lease.grant.renewAt)
    }
    if (next < Number.POSITIVE_INFINITY) this.#wakeAt(next)
  }

  async #renew(lease: Lease): Promise<void> {
    try {
      const { renewed, startedAt } = await this.#untilDeadline({
        lease,
        ttlMs: lease.ttlMs,
        exact: false,
        until: untilDeadline(lease),
      })
      if (renewed) lease.renewed(startedAt)
      else lease.lose('forced')
    } catch (error) {
      // The local deadline ends the lease, if nothing else does.
      this.#logger?.warn({ err: error, key: lease.key }, 'a lease could not be renewed')
      lease.isHeld()
    }
  }

  async #untilDeadline(renewal: Renewal): Promise<Renewed> {
    const { lease } = renewal
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#renewals[lease.mode].submit(renewal)
      } catch (error) {
        const leftMs = renewal.until - monotonicNow()
        if (!isTransient(error) || leftMs <= 0) throw error
        this.#logger?.debug({ err: error, key: lease.key, attempt }, 'a renewal had no answer and is sent again')
        await pause(Math.min(leftMs / 4, 20 * 2 ** Math.min(attempt, 5)) * (0.5 + Math.random()))
      }
    }
  }

  async #send(mode: Lease['mode'], batch: readonly Renewal[]): Promise<readonly Renewed[]> {
    const { renew, renewShares } = this.#store.statements
    const values = [
      textArray(batch.map(({ lease }) => lease.key)),
      textArray(batch.map(({ lease }) => lease.sessionId)),
      plainArray(batch.map(({ lease }) => lease.fencingToken)),
      plainArray(batch.map(({ ttlMs }) => ttlMs)),
      plainArray(batch.map(({ exact }) => exact)),
    ]
    const startedAt = monotonicNow()
    let shortest = Number.POSITIVE_INFINITY
    for (const { until } of batch) shortest = Math.min(shortest, until - startedAt)
    // Shorter than what is left: a request that hangs must leave time for another one.
    const timeoutMs = Math.min(Math.max(shortest / 2, 50), statementTimeoutMs)
    const rows = await this.#store.queryLocked<readonly [string]>(mode === 'exclusive' ? renew : renewShares, values, {
      timeoutMs,
      bypassPolicy: true,
    })
    const renewed = new Uint8Array(batch.length)
    for (const [position] of rows) renewed[Number(position) - 1] = 1
    return batch.map((_, index) => ({ renewed: renewed[index] === 1, startedAt }))
  }
}

const untilDeadline = (lease: Lease): number => monotonicNow() + lease.remainingMs()

const pause = (delayMs: number): Promise<void> =>
  new Promise((resolve) => {
    systemClock.schedule(resolve, delayMs)
  })
