import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type AcquireOptions,
  ClosedError,
  type Lock,
  type Locker,
  type LockerCapabilities,
  type LockStatus,
  lockId,
  type TryAcquireOptions,
} from '@x/lock-core'
import {
  acquireChannel,
  checkAcquireOptions,
  checkKey,
  checkKeys,
  Deadline,
  parseOptions,
  type ResolvedAcquireOptions,
  tracedAcquire,
  tracedAcquireMany,
} from '@x/lock-core/adapter'
import { connectionSource, quoteIdentifier } from '@x/pg-session'
import { Acquiring, type WantedLock } from './acquiring.ts'
import { type ListedLock, listLocks, type StatusRow, statusOf } from './inspect.ts'
import { SharedMemoryBudget } from './memory-budget.ts'
import { type AdvisoryLockerOptions, advisoryOptions, type ResolvedOptions } from './options.ts'
import { inspectAll, inspectId, livingBackends, ping, terminateHolders } from './server-statements.ts'
import type { SessionLocks } from './session-locks.ts'
import { Sessions } from './sessions.ts'
import { createWaiting } from './waiting/create-waiting.ts'
import type { Waiting } from './waiting/waiting.ts'

/** A locker on Postgres advisory locks, and what only it can do. */
export interface AdvisoryLocker extends Locker {
  /** All or nothing in one statement. */
  tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null>
  /**
   * Every advisory lock of the database, whoever holds it. `names` are the keys under which this locker holds or waits for
   * it; an id of somebody else's cannot be turned back into a name, and its `key` is the id.
   */
  list(): Promise<readonly ListedLock[]>
  /**
   * Ends the database sessions that hold the key, and with them every other lock they hold; resolves when they are gone,
   * after two seconds at most. A lock that this locker holds itself is given back and lost with reason `forced`. Needs the
   * role of the holder, or `pg_signal_backend`.
   * @returns whether there was a holder
   */
  terminateHolder(key: string): Promise<boolean>
}

const what = 'createAdvisoryLocker'

/** Milliseconds for which terminateHolder() waits: a backend that is busy in the kernel does not hear of its end. */
const terminationMs = 2_000

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

class SessionLocker implements AdvisoryLocker {
  readonly ttlMs: number = Number.POSITIVE_INFINITY
  readonly #options: ResolvedOptions
  readonly #defaults: ResolvedAcquireOptions
  readonly #sessions: Sessions
  readonly #waiting: Waiting
  readonly #acquiring: Acquiring
  #closed: Promise<void> | null = null

  constructor(options: AdvisoryLockerOptions) {
    const resolved = parseOptions(advisoryOptions, options, what)
    quoteIdentifier(resolved.schema, 'schema')
    const { namespace, schema, detectMs, idleMs, pooler, applicationName = ownName() } = resolved
    const { logger, policy } = options
    const session = { source: connectionSource(options, what), applicationName, detectMs, pooler, logger }
    const gate = lockId(namespace, '')
    const channel = `coordination_advisory_${gate < 0n ? `m${-gate}` : gate}`
    const budget = new SharedMemoryBudget(resolved.maxLocks)
    this.#options = resolved
    this.#sessions = new Sessions({
      session,
      gate,
      channel,
      schema,
      fencing: resolved.fencing ?? 'auto',
      budget,
      policy,
      logger,
      idleMs,
      isNeeded: () => !this.#acquiring.isIdle,
      onFreed: (turn, from, woken) => this.#acquiring.freed(turn, from, woken),
      onLost: (lost) => this.#acquiring.sessionLost(lost),
    })
    this.#waiting = createWaiting({
      options: resolved,
      listener: session,
      gate,
      channel,
      budget,
      session: () => this.#sessions.main(),
      openSeat: () => this.#sessions.open(),
    })
    this.#acquiring = new Acquiring({ sessions: this.#sessions, waiting: this.#waiting, budget })
    this.#defaults = checkAcquireOptions(undefined, this)
  }

  get capabilities(): LockerCapabilities {
    const fencing = this.#sessions.fencing ?? this.#options.fencing ?? 'none'
    return {
      modes: ['exclusive', 'shared'],
      fencing: fencing === 'sequence' ? 'durable' : fencing === 'xid' ? 'process' : 'none',
      lease: false,
      fifo: 'process',
      durable: false,
      crossProcess: true,
      lossNotice: 'best-effort',
    }
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    const wanted = this.#want(key, options)
    const { mode, signal } = wanted.options
    return tracedAcquire({ key, mode, waits: false, signal }, (trace) => this.#acquiring.try(wanted, trace))
  }

  acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    try {
      const wanted = this.#want(key, options)
      // A promise and a closure less for everybody whom nobody traces.
      if (!acquireChannel.hasSubscribers) return this.#acquiring.acquire(wanted, null)
      const { mode, signal } = wanted.options
      return tracedAcquire({ key, mode, waits: true, signal }, (trace) => this.#acquiring.acquire(wanted, trace))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null> {
    checkKeys(keys)
    const resolved = this.#check(options)
    const ids = keys.map((key) => this.identityOf(key).toString())
    if (keys.length === 0) return []
    const { mode, signal } = resolved
    return tracedAcquireMany({ keys, mode, signal }, () => this.#acquiring.tryAll(keys, ids, resolved))
  }

  identityOf(key: string): bigint {
    return lockId(this.#options.namespace, key)
  }

  async status(key: string): Promise<LockStatus> {
    const { id } = this.#want(key, undefined)
    const rows = await this.#ask((session) => session.query<StatusRow>(inspectId, [id]))
    return statusOf(key, rows, this.#sessions.own()(id), this.#acquiring.waiters(id))
  }

  async list(): Promise<readonly ListedLock[]> {
    this.#throwIfClosed()
    const rows = await this.#ask((session) => session.query<StatusRow>(inspectAll, []))
    const names = new Map<string, Set<string>>()
    const held = [...this.#sessions.all()].flatMap((session) => [...session.held].map((lock) => lock.key))
    for (const key of [...held, ...this.#acquiring.waitedFor()]) {
      const id = this.identityOf(key).toString()
      names.set(id, (names.get(id) ?? new Set()).add(key))
    }
    return listLocks(rows, names, this.#sessions.own(), (id) => this.#acquiring.waiters(id))
  }

  async terminateHolder(key: string): Promise<boolean> {
    const { id } = this.#want(key, undefined)
    const own = this.#sessions
      .own()(id)
      .flatMap(({ locks }) => locks)
    for (const lock of own) lock.lose('forced')
    const ended = await this.#ask(async (session) => {
      const spared = `{${[...this.#sessions.all()].map(({ pid }) => pid).join(',')}}`
      const pids = (await session.query(terminateHolders, [id, spared])).map(([pid]) => pid)
      // Not in the statement: one that waits for longer than detectMs would cost our own session, and every lock in it.
      const patience = Deadline.after(terminationMs)
      while (pids.length > 0 && !patience.hasPassed()) {
        // Between two looks a session in which nothing is held may be closed.
        const current = await this.#sessions.main()
        if ((await current.query(livingBackends, [`{${pids.join(',')}}`])).length === 0) break
        await delay(10)
      }
      return pids.length
    })
    return own.length + ended > 0
  }

  async ping(): Promise<void> {
    this.#throwIfClosed()
    await this.#ask((session) => session.query(ping, []))
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    this.#acquiring.close(new ClosedError('advisory locker'))
    // The locks end before anything that can take time.
    await Promise.all([this.#sessions.close(), this.#waiting.close()])
  }

  async #ask<T>(run: (session: SessionLocks) => Promise<T>): Promise<T> {
    try {
      return await run(await this.#sessions.main())
    } finally {
      this.#sessions.noteIdle()
    }
  }

  #want(key: string, options: AcquireOptions | undefined): WantedLock {
    checkKey(key)
    return { key, options: this.#check(options), id: this.identityOf(key).toString() }
  }

  #check(options: AcquireOptions | undefined): ResolvedAcquireOptions {
    const resolved = options === undefined ? this.#defaults : checkAcquireOptions(options, this)
    this.#throwIfClosed()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  #throwIfClosed(): void {
    if (this.#closed !== null) throw new ClosedError('advisory locker')
  }
}

function ownName(): string {
  return `${hostname()}:${process.pid}`.slice(-63)
}
