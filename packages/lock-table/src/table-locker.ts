import {
  type AcquireOptions,
  ClosedError,
  ConfigurationError,
  type Lock,
  type Locker,
  type LockerCapabilities,
  type LockStatus,
  LockTimeoutError,
  type TryAcquireOptions,
} from '@x/lock-core'
import {
  checkAcquireOptions,
  checkKey,
  type LockFamily,
  LockHandle,
  type ResolvedAcquireOptions,
  systemClock,
  tracedAcquire,
  WaitLimit,
  WaitQueue,
} from '@x/lock-core/adapter'
import { Admin, type ListFilter } from './admin.ts'
import { Failover } from './failover.ts'
import { type Grant, Granting, type GrantOutcome, type GrantRequest } from './granting.ts'
import type { LeaseGrant, LeaseName } from './lease.ts'
import { HandOff } from './line/hand-off.ts'
import { Line } from './line/line.ts'
import type { Waiter } from './line/waiter.ts'
import { Listening } from './line/wake-ups.ts'
import { type ResolvedTableLockerOptions, resolveOptions, type TableLockerOptions } from './options.ts'
import { Owners } from './owners.ts'
import { Releasing } from './releasing.ts'
import { Renewer } from './renewer.ts'
import { LockStore } from './store.ts'

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

const capabilities: LockerCapabilities = {
  modes: ['exclusive', 'shared'],
  fencing: 'durable',
  lease: true,
  fifo: 'global',
  durable: true,
  crossProcess: true,
  lossNotice: 'before-regrant',
}

const what = 'table locker'

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

/** How an attempt to get in ended. */
type Entered =
  | Grant
  | { readonly kind: 'waiting'; readonly waiter: Waiter }
  /** The key became free meanwhile: try again. */
  | { readonly kind: 'free' }
  /** A failover keeps everybody waiting. */
  | { readonly kind: 'refused' }

class LeaseLocker implements TableLocker {
  readonly capabilities: LockerCapabilities = capabilities
  /** The default of `ttlMs`. */
  readonly ttlMs: number
  readonly #options: ResolvedTableLockerOptions
  readonly #owners = new Owners()
  readonly #store: LockStore
  readonly #granting: Granting
  readonly #renewer: Renewer
  readonly #releasing: Releasing
  readonly #handOff: HandOff
  readonly #line: Line
  readonly #listening: Listening
  readonly #failover: Failover
  readonly #admin: Admin
  readonly #family: LockFamily<LeaseGrant>
  /** Between asking for a key and having a place in its line nobody of this process overtakes. */
  readonly #doors = new WaitQueue()
  readonly #held = new Set<LockHandle<LeaseGrant>>()
  readonly #waits = new Set<WaitLimit>()
  /** Acquires whose caller may have given up already, until nothing of theirs is left in the database. */
  readonly #underway = new Set<Promise<void>>()
  #closing: Promise<void> | null = null

  constructor(options: ResolvedTableLockerOptions) {
    this.#options = options
    this.ttlMs = options.ttlMs
    const { sessionId } = this.#owners
    const { logger, pollMs, claimMs, clockMarginMs, afterFailover } = options
    const acquirer = { name: options.name, address: options.address }
    this.#store = new LockStore(options)
    this.#listening = new Listening({
      listen: options.listen,
      pool: options.pool,
      connectionString: options.connectionString,
      name: `${options.schema}.${options.table}.${sessionId}`,
      logger,
      wake: (ticket) => this.#line.wake(ticket),
      resync: () => this.#line.resync(),
    })
    this.#failover = new Failover(this.#store, { pollMs, afterFailover, logger })
    this.#line = new Line(
      this.#store,
      { sessionId, acquirer, pollMs, clockMarginMs },
      { handOff: () => this.#handOff, wakeUps: this.#listening, failover: this.#failover, logger },
    )
    this.#handOff = new HandOff(this.#store, {
      sessionId,
      claimMs,
      clockMarginMs,
      afterFailover,
      logger,
      served: (ticket) => this.#line.wake(ticket),
    })
    this.#granting = new Granting(this.#store, { acquirer, clockMarginMs, afterFailover })
    this.#renewer = new Renewer(this.#store, logger)
    this.#releasing = new Releasing(this.#store, this.#handOff, logger)
    this.#admin = new Admin(this.#store, this.#handOff)
    this.#family = {
      logger,
      hooks: {
        release: (lock, keepMs) => this.#release(lock, keepMs),
        refresh: (lock, ttlMs) => this.#renewer.refresh(lock, finite(ttlMs)),
        lost: (lock, { reason }) => {
          this.#forget(lock)
          // The database still counts it as held; what it protected has been told to stop.
          if (reason === 'max-hold' || reason === 'closed') this.#releasing.abandon(nameOf(lock))
        },
      },
    }
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    checkKey(key)
    const resolved = this.#check(options)
    return tracedAcquire({ key, mode: resolved.mode, waits: false }, () =>
      this.#within(key, resolved, () => this.#once(key, resolved)),
    )
  }

  async acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    checkKey(key)
    const resolved = this.#check(options)
    const { mode, waitTimeoutMs } = resolved
    return tracedAcquire({ key, mode, waits: true }, async () => {
      if (waitTimeoutMs > 0) return this.#within(key, resolved, (limit) => this.#wait(key, resolved, limit))
      const lock = await this.#within(key, resolved, () => this.#once(key, resolved))
      if (lock === null) throw new LockTimeoutError({ key, waitTimeoutMs })
      return lock
    })
  }

  async tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null> {
    const distinct = [...new Set(keys)]
    for (const key of distinct) checkKey(key)
    const resolved = this.#check(options)
    if (distinct.length === 0) return []
    const requests = distinct.map((key) => this.#request(key, resolved))
    const locks = await this.#within('', resolved, async () => {
      const grants = await this.#granting.attemptAll(requests, resolved.mode)
      return grants?.map((grant, index) => this.#hold(request(requests, index), grant, resolved)) ?? null
    })
    if (locks === null) return null
    const byKey = new Map(locks.map((lock) => [lock.key, lock]))
    return keys.map((key) => byKey.get(key)).filter((lock) => lock !== undefined)
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    this.#assertOpen()
    return this.#admin.status(key)
  }

  async list(filter: ListFilter = {}): Promise<readonly LockStatus[]> {
    this.#assertOpen()
    return this.#admin.list(filter)
  }

  async forceRelease(key: string, options: { immediate?: boolean | undefined } = {}): Promise<boolean> {
    checkKey(key)
    this.#assertOpen()
    return this.#admin.forceRelease(key, options.immediate ?? false)
  }

  async prune(olderThanMs: number): Promise<number> {
    if (!(olderThanMs >= 0 && Number.isFinite(olderThanMs))) {
      throw new ConfigurationError(`prune: expected milliseconds, 0 or more; got ${String(olderThanMs)}`, {
        option: 'olderThanMs',
      })
    }
    this.#assertOpen()
    return this.#admin.prune(Math.floor(olderThanMs))
  }

  async ping(): Promise<void> {
    this.#assertOpen()
    await this.#store.query(this.#store.statements.ping, [])
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    for (const limit of [...this.#waits]) limit.end(new ClosedError(what))
    for (const lock of [...this.#held]) lock.lose('closed')
    this.#renewer.close()
    await Promise.all(this.#underway)
    await this.#line.close()
    await this.#releasing.idle()
    await this.#listening.close()
    await this.#store.close()
  }

  #assertOpen(): void {
    if (this.#closing !== null) throw new ClosedError(what)
  }

  #check(options: AcquireOptions | undefined): ResolvedAcquireOptions {
    const resolved = checkAcquireOptions(options, this)
    finite(resolved.ttlMs)
    this.#assertOpen()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  /** Ends when the caller's patience does. A lock that comes later than that is given back unseen. */
  async #within<T extends Lock | readonly Lock[] | null>(
    key: string,
    resolved: ResolvedAcquireOptions,
    fn: (limit: WaitLimit) => Promise<T>,
  ): Promise<T> {
    const waitTimeoutMs = resolved.waitTimeoutMs === 0 ? Number.POSITIVE_INFINITY : resolved.waitTimeoutMs
    const limit = new WaitLimit({ key, waitTimeoutMs, signal: resolved.signal })
    this.#waits.add(limit)
    const granted = fn(limit)
    let gaveUp = false
    const settled: Promise<void> = granted
      .then(async (late) => {
        if (gaveUp && late !== null) for (const lock of [late].flat()) await lock[Symbol.asyncDispose]()
      })
      .catch(() => {})
      .finally(() => this.#underway.delete(settled))
    this.#underway.add(settled)
    try {
      return await limit.race(granted)
    } catch (error) {
      gaveUp = true
      // Whoever hears that the wait is over may count on the place being free; but not wait for a database that is silent.
      await atMost(settled, politeMs)
      throw error
    } finally {
      this.#waits.delete(limit)
      limit[Symbol.dispose]()
    }
  }

  async #once(key: string, resolved: ResolvedAcquireOptions): Promise<Lock | null> {
    const turn = this.#doors.tryEnter(key, 'exclusive') ?? (await this.#doors.enter(key, 'exclusive'))
    try {
      const request = this.#request(key, resolved)
      const outcome = await this.#attempt(request)
      return outcome.kind === 'granted' ? this.#hold(request, outcome, resolved) : null
    } finally {
      turn.leave()
    }
  }

  async #wait(key: string, resolved: ResolvedAcquireOptions, limit: WaitLimit): Promise<Lock> {
    for (;;) {
      limit.throwIfOver()
      const request = this.#request(key, resolved)
      const entered = await this.#enter(request, limit)
      if (entered.kind === 'granted') return this.#hold(request, entered, resolved)
      if (entered.kind === 'refused') {
        await this.#failover.pause(limit)
        continue
      }
      if (entered.kind === 'free') continue
      const { waiter } = entered
      try {
        const outcome = await limit.race(waiter.outcome)
        if (outcome.kind === 'granted') return this.#hold(request, outcome, resolved)
      } catch (error) {
        await this.#leave(waiter)
        throw error
      }
    }
  }

  /** Through the door of the key: granted, or with a place in line. */
  async #enter(request: GrantRequest, limit: WaitLimit): Promise<Entered> {
    const { key } = request
    const turn = this.#doors.tryEnter(key, 'exclusive') ?? (await this.#doors.enter(key, 'exclusive', limit))
    try {
      // With somebody of this process in line the answer is known.
      if (this.#line.waiting(key) === 0) {
        const outcome = await this.#attempt(request)
        if (outcome.kind === 'granted') return outcome
        if (outcome.kind === 'refused' && (await this.#failover.quietMs()) > 0) return { kind: 'refused' }
      }
      if (limit.over() !== undefined) return { kind: 'free' }
      const waiter = await this.#line.enter(request)
      if (waiter === null) return { kind: 'free' }
      return { kind: 'waiting', waiter }
    } finally {
      turn.leave()
    }
  }

  /** One attempt, and one more where the first found a line of the dead before a free lock, or the first failover. */
  async #attempt(request: GrantRequest): Promise<GrantOutcome> {
    const outcome = await this.#granting.attempt(request)
    if (outcome.kind === 'stalled') {
      if ((await this.#failover.quietMs()) > 0) return outcome
      await this.#handOff.check(request.key)
      return this.#granting.attempt(request)
    }
    if (outcome.kind === 'refused' && (await this.#failover.quietMs()) === 0) return this.#granting.attempt(request)
    return outcome
  }

  async #leave(waiter: Waiter): Promise<void> {
    const { key, mode, owner } = waiter
    try {
      if (!(await this.#line.leave(waiter))) this.#releasing.abandon({ key, mode, owner, token: null })
    } catch (error) {
      // The line passes over what nobody confirms.
      this.#options.logger?.warn({ err: error, key }, 'a place in line could not be given up')
    }
  }

  #request(key: string, { mode, ttlMs, metadata }: ResolvedAcquireOptions): GrantRequest {
    return {
      key,
      owner: this.#owners.next(),
      mode,
      ttlMs,
      metadata: metadata === null ? null : JSON.stringify(metadata),
    }
  }

  #hold(request: GrantRequest, grant: Grant, resolved: ResolvedAcquireOptions): LockHandle<LeaseGrant> {
    const lock = new LockHandle<LeaseGrant>(
      {
        key: request.key,
        mode: request.mode,
        fencingToken: grant.token,
        sessionId: request.owner,
        acquiredAtMs: grant.acquiredAtMs,
        startedAt: grant.startedAt,
        ttlMs: request.ttlMs,
        leaseMs: grant.leaseMs,
        maxHoldMs: resolved.maxHoldMs,
        minHoldMs: resolved.minHoldMs,
        grant: { renewAt: Number.POSITIVE_INFINITY, refreshing: false },
      },
      this.#family,
    )
    this.#held.add(lock)
    if (this.#closing !== null) lock.lose('closed')
    else if (grant.leaseMs < request.ttlMs) this.#renewer.confirm(lock, resolved.renew === 'auto')
    else if (resolved.renew === 'auto') this.#renewer.add(lock)
    return lock
  }

  async #release(lock: LockHandle<LeaseGrant>, keepMs: number): Promise<void> {
    this.#forget(lock)
    if (keepMs > 0) await this.#renewer.keep(lock, Math.ceil(keepMs))
    else await this.#releasing.release(nameOf(lock))
  }

  #forget(lock: LockHandle<LeaseGrant>): void {
    this.#held.delete(lock)
    this.#renewer.remove(lock)
  }
}

/** Milliseconds for which a wait that is over goes on to give up its place in line; a round trip, as a rule. */
const politeMs = 250

const atMost = async (work: Promise<void>, limitMs: number): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = systemClock.schedule(resolve, limitMs, { keepAlive: true })
  await Promise.race([work, promise])
  timer.cancel()
}

const nameOf = (lock: LockHandle<LeaseGrant>): LeaseName => ({
  key: lock.key,
  mode: lock.mode,
  owner: lock.sessionId,
  token: lock.fencingToken,
})

const request = (requests: readonly GrantRequest[], index: number): GrantRequest => {
  const found = requests[index]
  if (found === undefined) throw new RangeError(`expected a request for grant ${index}`)
  return found
}

/** A lease must end by itself; `renew: 'auto'` keeps it for as long as the process lives. */
const finite = (ttlMs: number): number => {
  if (Number.isFinite(ttlMs) && ttlMs <= 2_147_483_647) return Math.ceil(ttlMs)
  throw new ConfigurationError(
    `option ttlMs: expected at most ${2_147_483_647} ms, because a lease must end when its process does; got ${ttlMs}; renewals keep it for as long as the process lives`,
    { option: 'ttlMs' },
  )
}
