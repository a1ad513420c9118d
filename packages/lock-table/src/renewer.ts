import { LockNotHeldError, type Logger } from '@x/lock-core'
import { type LockHandle, monotonicNow, systemClock, type Timer } from '@x/lock-core/adapter'
import { plainArray, plainElements, textArray } from './array-literal.ts'
import type { LeaseGrant } from './lease.ts'
import { isTransient, type LockStore, statementTimeoutMs } from './store.ts'

type Lease = LockHandle<LeaseGrant>

/** Milliseconds for which a lock that was handed over lives on its claim: a tenth of the shortest claim, and of its ttl. */
const settleAfterMs = (ttlMs: number): number => Math.min(10, ttlMs / 10)

/** Renewed at this part of the ttl, so that two more attempts fit before the lease is over. */
const renewAt = 1 / 3

/** A request that hangs must leave time for another one, but a busy machine needs some time to answer. */
const shortestTimeoutMs = 50

/**
 * Keeps leases alive: one statement for all that are due, whatever their number. An answer that was lost is asked for again
 * until the lease's local deadline, and not given up before.
 */
export class Renewer {
  readonly #store: LockStore
  readonly #logger: Logger | undefined
  readonly #owners: string
  readonly #leases = new Set<Lease>()
  #timer: { readonly at: number; readonly timer: Timer } | null = null

  /** @param owners what the owners of all our leases are like */
  constructor(store: LockStore, owners: string, logger: Logger | undefined) {
    this.#store = store
    this.#owners = owners
    this.#logger = logger
  }

  /** Takes over the renewal of the lease. */
  add(lease: Lease): void {
    this.#leases.add(lease)
    lease.grant.renewAt = monotonicNow() + lease.ttlMs * renewAt
    this.#wakeAt(lease.grant.renewAt)
  }

  /**
   * Turns the claim of a lock that was handed over into a lease of its ttl, soon and off the caller's path. Not for one that
   * is given back by then: its release would have to wait until the renewal is on disk.
   */
  confirm(lease: Lease, goOn: boolean): void {
    if (goOn) this.add(lease)
    const timer = systemClock.schedule(() => void this.#settle(lease), settleAfterMs(lease.ttlMs))
    lease.grant.claim = { kind: 'due', timer }
  }

  remove(lease: Lease): void {
    if (lease.grant.claim?.kind === 'due') {
      lease.grant.claim.timer.cancel()
      lease.grant.claim = null
    }
    this.#leases.delete(lease)
    if (this.#leases.size === 0) this.#sleep()
  }

  /**
   * One renewal, by the holder's wish; may shorten the lease.
   * @throws {LockNotHeldError} when the database says that the lease is over
   */
  async refresh(lease: Lease, ttlMs: number): Promise<void> {
    await this.#store.admit(ttlMs)
    // A renewal of the old ttl that is sent after this one would be taken for one of the new.
    lease.grant.refreshing = true
    try {
      await this.#exactly(lease, ttlMs)
    } finally {
      lease.grant.refreshing = false
    }
    lease.grant.renewAt = monotonicNow() + ttlMs * renewAt
    if (this.#leases.has(lease)) this.#wakeAt(lease.grant.renewAt)
  }

  close(): void {
    this.#leases.clear()
    this.#sleep()
  }

  /** Resolves when the claim is a lease of the ttl; at once where it is. */
  async #settle(lease: Lease): Promise<void> {
    const { claim } = lease.grant
    if (claim === null) return
    if (claim.kind === 'sent') return claim.done
    claim.timer.cancel()
    // Exactly: the claim may be longer. A refresh waits for it, or the lease could end up shorter than the holder believes.
    const done = this.#renew(lease.mode, [lease], true).finally(() => {
      lease.grant.claim = null
    })
    lease.grant.claim = { kind: 'sent', done }
    return done
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
    const due: Readonly<Record<Lease['mode'], Lease[]>> = { exclusive: [], shared: [] }
    let next = Number.POSITIVE_INFINITY
    for (const lease of this.#leases) {
      if (!lease.isHeld()) {
        this.#leases.delete(lease)
        continue
      }
      const { grant } = lease
      const intervalMs = lease.ttlMs * renewAt
      if (grant.renewAt <= now + intervalMs / 2) {
        grant.renewAt = now + intervalMs
        if (!grant.refreshing) due[lease.mode].push(lease)
      }
      next = Math.min(next, grant.renewAt)
    }
    for (const mode of ['exclusive', 'shared'] as const) if (due[mode].length > 0) void this.#renew(mode, due[mode])
    if (next < Number.POSITIVE_INFINITY) this.#wakeAt(next)
  }

  async #renew(mode: Lease['mode'], due: readonly Lease[], exact: boolean = false): Promise<void> {
    // Every statement locks rows in the order of the keys; the server takes those of a renewal in the order of its arrays.
    let leases = due.toSorted((one, other) => (one.key < other.key ? -1 : 1))
    for (let attempt = 0; leases.length > 0; attempt += 1) {
      const until = earliestDeadline(leases)
      try {
        const startedAt = monotonicNow()
        const renewed = await this.#send(mode, leases, (lease) => lease.ttlMs, exact, until)
        for (const [index, lease] of leases.entries()) {
          lease.grant.failure = undefined
          if (renewed[index] === 1) lease.renewed(startedAt)
          else lease.lose('forced')
        }
        return
      } catch (error) {
        for (const lease of leases) lease.grant.failure = error
        if (!isTransient(error)) {
          // The local deadlines end the leases, if nothing else does.
          this.#logger?.error({ err: error, leases: leases.length }, 'leases cannot be renewed')
          return
        }
        this.#logger?.warn({ err: error, leases: leases.length, attempt }, 'a renewal had no answer and is sent again')
        await pauseAfter(attempt, until)
        leases = leases.filter((lease) => lease.isHeld() && !lease.grant.refreshing)
      }
    }
  }

  async #exactly(lease: Lease, ttlMs: number): Promise<void> {
    const until = monotonicNow() + lease.remainingMs()
    await this.#settle(lease)
    for (let attempt = 0; ; attempt += 1) {
      try {
        const [renewed] = await this.#send(lease.mode, [lease], () => ttlMs, true, until)
        if (renewed === 1) return
        throw new LockNotHeldError({ key: lease.key, operation: 'refresh' })
      } catch (error) {
        if (!isTransient(error) || monotonicNow() >= until) throw error
        // The holder waits for it: without a connection this timer is all that keeps the process alive.
        await pauseAfter(attempt, until, true)
      }
    }
  }

  /** One statement; 1 in the place of each lease that was renewed. */
  async #send(
    mode: Lease['mode'],
    leases: readonly Lease[],
    ttlOf: (lease: Lease) => number,
    exact: boolean,
    until: number,
  ): Promise<Uint8Array> {
    const { renew, renewShares } = this.#store.statements
    const ttls = leases.map(ttlOf)
    const tokens = plainArray(leases.map((lease) => lease.fencingToken))
    const rows = await this.#store.queryLocked<readonly [string | null]>(
      mode === 'exclusive' ? renew : renewShares,
      [
        textArray(leases.map((lease) => lease.key)),
        ...(mode === 'exclusive'
          ? [tokens, this.#owners]
          : [plainArray(leases.map((lease) => lease.sessionId)), tokens]),
        allEqual(ttls) ? null : plainArray(ttls),
        ttls[0],
        exact,
      ],
      {
        timeoutMs: Math.min(Math.max((until - monotonicNow()) / 2, shortestTimeoutMs), statementTimeoutMs),
        bypassPolicy: true,
      },
    )
    const renewed = new Uint8Array(leases.length)
    const answer = rows[0]?.[0]
    if (answer === 'all') return renewed.fill(1)
    for (const position of plainElements(answer)) renewed[Number(position) - 1] = 1
    return renewed
  }
}

const allEqual = (values: readonly number[]): boolean => values.every((value) => value === values[0])

const earliestDeadline = (leases: readonly Lease[]): number => {
  let shortest = Number.POSITIVE_INFINITY
  for (const lease of leases) shortest = Math.min(shortest, lease.remainingMs())
  return monotonicNow() + shortest
}

/** Longer each time, with jitter, and never so long that the deadline passes unused. */
const pauseAfter = (attempt: number, until: number, keepAlive: boolean = false): Promise<void> => {
  const delayMs = Math.min((until - monotonicNow()) / 4, 20 * 2 ** Math.min(attempt, 5)) * (0.5 + Math.random())
  return new Promise((resolve) => {
    systemClock.schedule(resolve, Math.max(delayMs, 1), { keepAlive })
  })
}
