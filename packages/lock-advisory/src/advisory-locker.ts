import { hostname } from 'node:os'
import {
  type AcquireOptions,
  ClosedError,
  type Lock,
  type Locker,
  type LockerCapabilities,
  type LockMode,
  type LockStatus,
  LockTimeoutError,
  lockId,
  type TryAcquireOptions,
} from '@x/lock-core'
import {
  type AcquireTrace,
  acquireChannel,
  checkAcquireOptions,
  checkKey,
  parseOptions,
  type ResolvedAcquireOptions,
  type Turn,
  tracedAcquire,
  WaitLimit,
  WaitQueue,
} from '@x/lock-core/adapter'
import { connectionSource } from '@x/pg-session'
import type { Operation, Outcome } from './batch.ts'
import { type ListedLock, listLocks, type OwnLock, type StatusRow, statusOf } from './inspect.ts'
import { SharedMemoryBudget } from './memory-budget.ts'
import { type AdvisoryLockerOptions, advisoryOptions, type ResolvedOptions } from './options.ts'
import { type AdvisoryLock, type SessionContext, SessionLocks, tryStep } from './session-locks.ts'
import { inspectAll, inspectId, ping, terminateHolders } from './statements.ts'
import { createWaiting } from './waiting/create-waiting.ts'
import { LineNotice } from './waiting/line-notice.ts'
import type { Granted, Wait, Waiting } from './waiting/waiting.ts'

/** A locker on Postgres advisory locks, and what only it can do. */
export interface AdvisoryLocker extends Locker {
  /**
   * Every advisory lock of the database, whoever holds it. `names` are the keys under which this locker holds or waits for
   * it; an id of somebody else's cannot be turned back into a name, and its `key` is the id.
   */
  list(): Promise<readonly ListedLock[]>
  /**
   * Ends the database sessions that hold the key, and with them every other lock they hold. A lock that this locker holds
   * itself is given back and lost with reason `forced`. Needs the role of the holder, or `pg_signal_backend`.
   * @returns whether there was a holder
   */
  terminateHolder(key: string): Promise<boolean>
}

const what = 'createAdvisoryLocker'

/**
 * Locks by `pg_advisory_lock`: no schema, thousands of them on one connection, one round trip for each. Connects on first
 * use. See the README for what a session lock does not promise.
 *
 * @throws {ConfigurationError}
 * @example
 * await using locker = createAdvisoryLocker({ connectionString: process.env.DATABASE_URL })
 * await withLock(locker, 'report', () => writeReport())
 */
export function createAdvisoryLocker(options: AdvisoryLockerOptions): AdvisoryLocker {
  return new SessionLocker(options)
}

type MainSession =
  | { readonly kind: 'none' }
  | { readonly kind: 'opening'; readonly opened: Promise<SessionLocks> }
  | { readonly kind: 'open'; readonly session: SessionLocks }

const none: MainSession = { kind: 'none' }

/** Milliseconds, ± 50 %, for which those who wait in this process let others go first who were just told. */
const courtesyMs = 2

class SessionLocker implements AdvisoryLocker {
  readonly ttlMs: number = Number.POSITIVE_INFINITY
  readonly #options: ResolvedOptions
  readonly #defaults: ResolvedAcquireOptions
  readonly #context: SessionContext
  readonly #waiting: Waiting
  readonly #budget: SharedMemoryBudget
  readonly #queue = new WaitQueue()
  readonly #waits = new Map<WaitLimit, string>()
  readonly #notice: LineNotice
  /** By id: resolves when nothing is left of one who gave up. */
  readonly #cleanups = new Map<string, Promise<void>>()
  /** Heads of their lines, who wait for other processes. */
  readonly #heads = new Map<string, number>()
  /** All sessions that may hold locks: the main one and those that waited in the server's queue. */
  readonly #sessions = new Set<SessionLocks>()
  readonly #closing = new AbortController()
  #main: MainSession = none
  #closed: Promise<void> | null = null
  #idleSince = 0
  #idleTimer: NodeJS.Timeout | undefined
  #fencing: 'sequence' | 'xid' | 'none'

  constructor(options: AdvisoryLockerOptions) {
    const resolved = parseOptions(advisoryOptions, options, what)
    const { namespace, schema, detectMs, pooler, applicationName = ownName() } = resolved
    const source = connectionSource(options, what)
    this.#options = resolved
    this.#defaults = checkAcquireOptions(undefined, this)
    this.#fencing = resolved.fencing ?? 'none'
    this.#budget = new SharedMemoryBudget(resolved.maxLocks)
    const gate = lockId(namespace, '')
    const channel = `coordination_advisory_${gate < 0n ? `m${-gate}` : gate}`
    const { logger, policy } = options
    const session = { source, applicationName, detectMs, pooler, logger }
    this.#context = {
      session,
      gate,
      channel,
      schema,
      fencing: resolved.fencing ?? 'auto',
      budget: this.#budget,
      policy,
      logger,
      onFreed: (turn, from, woken) => this.#freed(turn, from, woken),
      onLost: (lost) => this.#lost(lost),
    }
    this.#notice = new LineNotice(
      () => (this.#main.kind === 'open' ? this.#main.session : null),
      (id) => this.#queue.waiting(id) > 0,
      this.#budget,
    )
    this.#waiting = createWaiting({
      options: resolved,
      listener: session,
      gate,
      channel,
      budget: this.#budget,
      session: () => this.#session(),
      openSeat: () => this.#openSession(),
    })
  }

  get capabilities(): LockerCapabilities {
    return {
      modes: ['exclusive', 'shared'],
      fencing: this.#fencing === 'sequence' ? 'durable' : this.#fencing === 'xid' ? 'process' : 'none',
      lease: false,
      fifo: 'process',
      durable: false,
      crossProcess: true,
      lossNotice: 'best-effort',
    }
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    const resolved = this.#check(key, options)
    return tracedAcquire({ key, mode: resolved.mode, waits: false, signal: resolved.signal }, async (trace) => {
      const id = this.#textId(key)
      const turn = this.#queue.tryEnter(id, resolved.mode) ?? (await this.#enterAfterCleanup(id, resolved.mode))
      if (turn === null) return null
      // Here and not after the wait: who gives up before the answer is there does not come back for his turn.
      const attempt = this.#attempt(turn, key, resolved).then((lock) => {
        if (lock === null) turn.leave()
        return lock
      })
      const lock = await (resolved.signal === undefined ? attempt : this.#limited(key, id, resolved, () => attempt))
      if (lock !== null && trace !== null) trace.batchSize = lock.grant.batchSize
      return lock
    })
  }

  acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    try {
      const resolved = this.#check(key, options)
      // A promise and a closure less for everybody whom nobody traces.
      return acquireChannel.hasSubscribers
        ? tracedAcquire({ key, mode: resolved.mode, waits: true, signal: resolved.signal }, (trace) =>
            this.#acquire(key, resolved, trace),
          )
        : this.#acquire(key, resolved, null)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null> {
    for (const key of keys) checkKey(key)
    const resolved = this.#checkOptions(options)
    if (keys.length === 0) return []
    const turns: Turn[] = []
    const leave = (): void => {
      for (const turn of turns) turn.leave()
    }
    for (const key of keys) {
      const turn = this.#queue.tryEnter(this.#textId(key), resolved.mode)
      if (turn === null) {
        leave()
        return null
      }
      turns.push(turn)
    }
    let places = 0
    try {
      const session = this.#main.kind === 'open' ? this.#main.session : await this.#session()
      for (; places < keys.length; places += 1) this.#budget.take()
      const outcome = await session.tryAll(
        turns.map((turn) => turn.key),
        resolved.mode,
      )
      if (outcome !== null) {
        this.#throwIfClosed()
        return turns.map((turn, index) => session.grant(keys[index] ?? '', turn, outcome, resolved))
      }
    } catch (error) {
      for (; places > 0; places -= 1) this.#budget.give()
      leave()
      throw error
    }
    for (; places > 0; places -= 1) this.#budget.give()
    leave()
    this.#noteIdle()
    return null
  }

  identityOf(key: string): bigint {
    return lockId(this.#options.namespace, key)
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    this.#throwIfClosed()
    const session = await this.#session()
    const id = this.#textId(key)
    const rows = await session.query<StatusRow>(inspectId, [id])
    this.#noteIdle()
    return statusOf(key, rows, this.#own(id), this.#localWaiters(id))
  }

  async list(): Promise<readonly ListedLock[]> {
    this.#throwIfClosed()
    const session = await this.#session()
    const rows = await session.query<StatusRow>(inspectAll, [])
    const names = new Map<string, Set<string>>()
    const keys = [...[...this.#sessions].flatMap((of) => [...of.held].map((lock) => lock.key)), ...this.#waits.values()]
    for (const key of keys) {
      const id = this.#textId(key)
      names.set(id, (names.get(id) ?? new Set()).add(key))
    }
    this.#noteIdle()
    return listLocks(
      rows,
      names,
      (id) => this.#own(id),
      (id) => this.#localWaiters(id),
    )
  }

  async terminateHolder(key: string): Promise<boolean> {
    checkKey(key)
    this.#throwIfClosed()
    const id = this.#textId(key)
    const own = this.#own(id).flatMap(({ locks }) => locks)
    for (const lock of own) lock.lose('forced')
    const session = await this.#session()
    const [row] = await session.query(terminateHolders, [
      id,
      `{${[...this.#sessions].map(({ pid }) => pid).join(',')}}`,
    ])
    this.#noteIdle()
    return own.length > 0 || row?.[0] === true
  }

  async ping(): Promise<void> {
    this.#throwIfClosed()
    const session = await this.#session()
    await session.query(ping, [])
    this.#noteIdle()
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const error = this.#closedError()
    clearTimeout(this.#idleTimer)
    this.#notice.close()
    const opening = this.#main.kind === 'opening' ? this.#main.opened : null
    this.#closing.abort(error)
    this.#queue.rejectAll(() => error)
    for (const limit of [...this.#waits.keys()]) limit.end(error)
    // The locks end before anything that can take time.
    const sessions = [...this.#sessions].map((session) => session.close('closed'))
    await Promise.all([...sessions, this.#waiting.close(), opening?.catch(() => {})])
    await Promise.all([...this.#sessions].map((session) => session.close('closed')))
  }

  #check(key: string, options: AcquireOptions | undefined): ResolvedAcquireOptions {
    checkKey(key)
    return this.#checkOptions(options)
  }

  #checkOptions(options: AcquireOptions | undefined): ResolvedAcquireOptions {
    const resolved = options === undefined ? this.#defaults : checkAcquireOptions(options, this)
    this.#throwIfClosed()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  #textId(key: string): string {
    return lockId(this.#options.namespace, key).toString()
  }

  /** Most acquires find the lock free: they pay for no timer and no listener. */
  #acquire(key: string, resolved: ResolvedAcquireOptions, trace: AcquireTrace | null): Promise<AdvisoryLock> {
    const id = this.#textId(key)
    const turn = this.#queue.tryEnter(id, resolved.mode)
    const unlimited = resolved.signal === undefined && resolved.waitTimeoutMs === Number.POSITIVE_INFINITY
    const main = this.#main
    if (turn === null || !unlimited || main.kind !== 'open') return this.#acquireSlowly(turn, id, key, resolved, trace)
    try {
      this.#budget.take()
    } catch (error) {
      turn.leave()
      return Promise.reject(error)
    }
    const { session } = main
    const operation: Operation = { step: tryStep(resolved.mode), id, outcome: null }
    return session.join(operation).then(
      () => {
        const { outcome } = operation
        if (outcome !== null && this.#closed === null) {
          if (trace !== null) trace.batchSize = outcome.size
          return session.grant(key, turn, outcome, resolved)
        }
        this.#budget.give()
        return this.#acquireSlowly(turn, id, key, resolved, trace)
      },
      () => {
        // Whether a new session does better is found out there.
        this.#budget.give()
        return this.#acquireSlowly(turn, id, key, resolved, trace)
      },
    )
  }

  async #acquireSlowly(
    early: Turn | null,
    id: string,
    key: string,
    resolved: ResolvedAcquireOptions,
    trace: AcquireTrace | null,
  ): Promise<AdvisoryLock> {
    let turn = early
    if (turn === null && resolved.waitTimeoutMs === 0) {
      turn = await this.#enterAfterCleanup(id, resolved.mode)
      if (turn === null) throw new LockTimeoutError({ key, waitTimeoutMs: 0 })
    }
    const lock = await this.#limited(key, id, resolved, (limit) => this.#wait(turn, key, resolved, limit))
    if (trace !== null) trace.batchSize = lock.grant.batchSize
    return lock
  }

  /** One try by the holder of the turn: the lock, or null. Rejects with the turn left. */
  async #attempt(turn: Turn, key: string, resolved: ResolvedAcquireOptions): Promise<AdvisoryLock | null> {
    let placed = false
    try {
      const known = this.#main.kind === 'open' ? this.#main.session : null
      let session = known ?? (await this.#session())
      this.#budget.take()
      placed = true
      let outcome: Outcome | null
      try {
        outcome = await session.submit(tryStep(resolved.mode), turn.key)
      } catch (error) {
        // A session from before may have died unnoticed. A new one tells; what the old one was granted died with it.
        if (known === null || session.isAlive() || this.#closed !== null) throw error
        session = await this.#session()
        outcome = await session.submit(tryStep(resolved.mode), turn.key)
      }
      this.#throwIfClosed()
      if (outcome !== null) return session.grant(key, turn, outcome, resolved)
      this.#budget.give()
      this.#noteIdle()
      return null
    } catch (error) {
      if (placed) this.#budget.give()
      turn.leave()
      throw this.#closed === null ? error : this.#closedError()
    }
  }

  /** Waits for the turn, unless it has it, and then for other processes. Rejects with the turn left. */
  async #wait(
    early: Turn | null,
    key: string,
    resolved: ResolvedAcquireOptions,
    limit: WaitLimit,
  ): Promise<AdvisoryLock> {
    const turn = early ?? (await this.#standInLine(this.#textId(key), resolved.mode, limit))
    if (early !== null || this.#waiting.triesFirst) {
      const lock = await this.#attempt(turn, key, resolved)
      if (lock !== null) return lock
    }
    if (resolved.waitTimeoutMs === 0) {
      turn.leave()
      throw new LockTimeoutError({ key, waitTimeoutMs: 0 })
    }
    try {
      limit.throwIfOver()
      this.#budget.take()
      try {
        const granted = await this.#waitForOthers({ id: turn.key, mode: resolved.mode, limit })
        if (granted === null) throw limit.over()?.error ?? this.#closedError()
        this.#throwIfClosed()
        return granted.session.grant(key, turn, granted.outcome, resolved)
      } catch (error) {
        this.#budget.give()
        throw error
      }
    } catch (error) {
      turn.leave()
      this.#noteIdle()
      throw error
    }
  }

  async #standInLine(id: string, mode: LockMode, limit: WaitLimit): Promise<Turn> {
    const entering = this.#queue.enter(id, mode, limit)
    if (this.#queue.waiting(id) > 0) this.#notice.begin(id)
    try {
      return await entering
    } finally {
      if (this.#queue.waiting(id) === 0) this.#notice.end(id)
    }
  }

  /**
   * Who gave up is let go at once, and may still have the turn while a statement of his is on its way. To say "taken"
   * because of that would be wrong: what he may get is given back in a moment.
   */
  async #enterAfterCleanup(id: string, mode: LockMode): Promise<Turn | null> {
    for (let cleanup = this.#cleanups.get(id); cleanup !== undefined; cleanup = this.#cleanups.get(id)) {
      await cleanup
      const turn = this.#queue.tryEnter(id, mode)
      if (turn !== null) return turn
    }
    return null
  }

  async #waitForOthers(wait: Wait): Promise<Granted | null> {
    this.#heads.set(wait.id, (this.#heads.get(wait.id) ?? 0) + 1)
    try {
      return await this.#waiting.wait(wait)
    } finally {
      const left = (this.#heads.get(wait.id) ?? 1) - 1
      if (left === 0) this.#heads.delete(wait.id)
      else this.#heads.set(wait.id, left)
    }
  }

  /**
   * Runs something that may be granted a lock and lets the caller go when his limit is over, whatever it is doing then. A
   * lock that comes afterwards is given back: nobody was told that he holds it.
   */
  async #limited<L extends AdvisoryLock | null>(
    key: string,
    id: string,
    resolved: ResolvedAcquireOptions,
    run: (limit: WaitLimit) => Promise<L>,
  ): Promise<L> {
    // One attempt ends by itself; a limit of 0 would be over before it.
    const waitTimeoutMs = resolved.waitTimeoutMs === 0 ? Number.POSITIVE_INFINITY : resolved.waitTimeoutMs
    const limit = new WaitLimit({ key, waitTimeoutMs, signal: resolved.signal })
    this.#waits.set(limit, key)
    try {
      return await new Promise<L>((resolve, reject) => {
        let open = true
        const running = run(limit)
        const stop = limit.onOver((error) => {
          open = false
          reject(error)
          const own = running.then(
            (lock) => lock?.[Symbol.asyncDispose](),
            () => {},
          )
          const cleanup = Promise.all([own, this.#cleanups.get(id)]).then(() => {})
          this.#cleanups.set(id, cleanup)
          void cleanup.finally(() => {
            if (this.#cleanups.get(id) === cleanup) this.#cleanups.delete(id)
          })
        })
        running.then(
          (lock) => {
            // Whoever has the lock keeps it, even if his signal aborts before his own code runs again.
            stop()
            if (open) resolve(lock)
          },
          (error: unknown) => reject(error),
        )
      })
    } finally {
      this.#waits.delete(limit)
      limit[Symbol.dispose]()
    }
  }

  /** The session that everything but blocked waiting goes through; opened when there is none. */
  #session(): Promise<SessionLocks> {
    const main = this.#main
    if (main.kind === 'open' && main.session.isAlive()) return Promise.resolve(main.session)
    if (main.kind === 'opening') return main.opened
    const opened = this.#openSession()
    this.#main = { kind: 'opening', opened }
    opened.then(
      (session) => {
        this.#main = { kind: 'open', session }
      },
      () => {
        this.#main = none
      },
    )
    return opened
  }

  async #openSession(): Promise<SessionLocks> {
    this.#throwIfClosed()
    const session = await SessionLocks.open(this.#context, this.#closing.signal)
    this.#fencing = session.fencing.kind
    this.#sessions.add(session)
    return session
  }

  #lost(session: SessionLocks): void {
    this.#sessions.delete(session)
    if (this.#main.kind === 'open' && this.#main.session === session) this.#main = none
    this.#waiting.sessionLost(session)
    this.#notice.sessionLost(session)
  }

  #freed(turn: Turn, session: SessionLocks, woken: boolean): void {
    this.#budget.give()
    this.#waiting.freed(session)
    this.#noteIdle()
    // Those who were told in other processes need a moment to come; without it, who waits here would always be first.
    if (woken && this.#queue.waiting(turn.key) > 0) {
      setTimeout(() => turn.leave(), courtesyMs * (0.5 + Math.random()))
    } else {
      turn.leave()
    }
  }

  /** Locks of this locker under the id, by session. */
  #own(id: string): readonly OwnLock[] {
    return [...this.#sessions].map((session) => ({
      pid: session.pid,
      locks: [...session.held].filter((lock) => lock.grant.id === id && lock.isHeld()),
    }))
  }

  /** What the server shows of these is left out of the count: it sees one of them for each session. */
  #localWaiters(id: string): number {
    return this.#queue.waiting(id) + (this.#heads.get(id) ?? 0)
  }

  /** Looks once in a while whether the session is of use to anybody; a release must not pay for a timer. */
  #noteIdle(): void {
    if (this.#closed !== null || this.#main.kind !== 'open' || !this.#isUnused(this.#main.session)) return
    this.#idleSince = performance.now()
    this.#idleTimer ??= this.#watchIdle(this.#options.idleMs)
  }

  #watchIdle(afterMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#idleTimer = undefined
      if (this.#main.kind !== 'open') return
      const { session } = this.#main
      // Whoever uses it now notes when he is done.
      if (!this.#isUnused(session)) return
      const restMs = this.#idleSince + this.#options.idleMs - performance.now()
      if (restMs > 0 || !session.isIdle()) {
        this.#idleTimer = this.#watchIdle(Math.max(restMs, 1))
        return
      }
      this.#main = none
      this.#sessions.delete(session)
      session.close().catch(() => {})
    }, Math.ceil(afterMs)).unref()
  }

  #isUnused(session: SessionLocks): boolean {
    return session.held.size === 0 && this.#waits.size === 0
  }

  #closedError(): ClosedError {
    return new ClosedError('advisory locker')
  }

  #throwIfClosed(): void {
    if (this.#closed !== null || this.#closing.signal.aborted) throw this.#closedError()
  }
}

function ownName(): string {
  return `${hostname()}:${process.pid}`.slice(-63)
}
