import { hostname } from 'node:os'
import { z } from 'zod'
import { type Clock, systemClock } from '../adapter/clock.ts'
import { keepProcess } from '../adapter/keep-process.ts'
import { ksuid } from '../adapter/ksuid.ts'
import { type LockFamily, LockHandle } from '../adapter/lock-handle.ts'
import { observabilityOptions } from '../adapter/observability-options.ts'
import {
  checkAcquireOptions,
  checkKey,
  checkKeys,
  parseOptions,
  type ResolvedAcquireOptions,
} from '../adapter/options.ts'
import { tracedAcquire, tracedAcquireMany } from '../adapter/tracing.ts'
import { WaitLimit } from '../adapter/wait-limit.ts'
import type { Turn } from '../adapter/wait-queue.ts'
import { ClosedError } from '../errors.ts'
import type {
  AcquireOptions,
  Lock,
  Locker,
  LockerCapabilities,
  LockHolder,
  LockStatus,
  TryAcquireOptions,
} from '../locker.ts'
import type { ObservabilityOptions } from '../observability.ts'
import { type MemoryGrant, MemoryStore } from './memory-store.ts'

/** Options of the memory locker. */
export interface MemoryLockerOptions extends ObservabilityOptions {
  /**
   * Lockers that are given the same object share their locks.
   * @default a store of its own
   */
  store?: object | undefined
  /**
   * Milliseconds on a line that never steps back.
   * @default the machine's monotonic clock
   */
  now?: (() => number) | undefined
}

/** A locker within one process, and what only it can do. */
export interface MemoryLocker extends Locker {
  tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null>
  /** Takes the key away from its holders, whose signals abort with reason `forced`. Tells whether there was one. */
  forceRelease(key: string): Promise<boolean>
}

const capabilities: LockerCapabilities = {
  modes: ['exclusive', 'shared'],
  fencing: 'process',
  lease: true,
  fifo: 'process',
  durable: false,
  crossProcess: false,
  lossNotice: 'before-regrant',
}

const schema = z.strictObject({
  store: z.custom<object>((value) => typeof value === 'object' && value !== null, 'expected an object').optional(),
  now: z.custom<() => number>((value) => typeof value === 'function', 'expected a function').optional(),
  ...observabilityOptions,
})

const stores = /* @__PURE__ */ new WeakMap<object, MemoryStore>()

/**
 * Locks within one process: for tests, and for a service that runs as one replica. It keeps every promise that the other
 * lockers keep, except that it excludes nobody in other processes.
 *
 * @throws {ConfigurationError}
 * @example
 * const locker = createMemoryLocker()
 * await withLock(locker, 'report', () => writeReport())
 */
export function createMemoryLocker(options: MemoryLockerOptions = {}): MemoryLocker {
  parseOptions(schema, options, 'createMemoryLocker')
  return new ProcessLocker(options)
}

class ProcessLocker implements MemoryLocker {
  readonly capabilities: LockerCapabilities = capabilities
  readonly ttlMs: number = Number.POSITIVE_INFINITY
  readonly #sessionId = ksuid()
  readonly #store: MemoryStore
  readonly #clock: Clock
  readonly #family: LockFamily<MemoryGrant>
  readonly #held = new Set<LockHandle<MemoryGrant>>()
  readonly #waits = new Set<WaitLimit>()
  #closed = false

  constructor(options: MemoryLockerOptions) {
    this.#store = storeOf(options.store ?? {})
    this.#clock = options.now === undefined ? systemClock : { ...systemClock, now: options.now }
    this.#family = {
      clock: this.#clock,
      logger: options.logger,
      expiry: 'lease-expired',
      enforceTtl: true,
      hooks: {
        release: async (lock, keepMs) => this.#forget(lock, keepMs),
        refresh: async () => {},
        lost: (lock) => this.#forget(lock, 0),
      },
    }
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    const resolved = this.#check([key], options)
    return tracedAcquire({ key, mode: resolved.mode, waits: false }, async () => {
      const [lock] = this.#tryAll([key], resolved) ?? [null]
      return lock ?? null
    })
  }

  async tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null> {
    const resolved = this.#check(keys, options)
    return tracedAcquireMany({ keys, mode: resolved.mode }, async () => this.#tryAll(keys, resolved))
  }

  async acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    const resolved = this.#check([key], options)
    return tracedAcquire({ key, mode: resolved.mode, waits: true, signal: resolved.signal }, async () => {
      const limit = new WaitLimit({ key, waitTimeoutMs: resolved.waitTimeoutMs, signal: resolved.signal }, this.#clock)
      this.#waits.add(limit)
      try {
        const [lock] = this.#tryAll([key], resolved) ?? []
        if (lock !== undefined) return lock
        // The timer that ends a holder's ttl keeps no process.
        using _wait = keepProcess(limit.signal)
        const turn = await this.#store.queue.enter(key, resolved.mode, limit)
        const reason = this.#closed ? new ClosedError('memory locker') : resolved.signal?.reason
        if (reason !== undefined) {
          // The wait ended between the grant and this line: nobody will ever see this lock.
          turn.leave()
          throw reason
        }
        return this.#grant(turn, resolved)
      } finally {
        this.#waits.delete(limit)
        limit[Symbol.dispose]()
      }
    })
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    this.#assertOpen()
    this.#store.sweep(key)
    const holders = this.#store.holders(key).map(holderOf)
    const [first] = holders
    return {
      key,
      isAcquired: this.#store.queue.active(key) > 0,
      mode: first?.mode ?? null,
      sessionId: first?.sessionId ?? null,
      acquirerName: first?.acquirerName ?? null,
      acquirerAddress: null,
      acquiredAt: first?.acquiredAt ?? null,
      expiresAt: first?.expiresAt ?? null,
      fencingToken: first?.fencingToken ?? null,
      metadata: first?.metadata ?? null,
      waiters: this.#store.queue.waiting(key),
      holders,
    }
  }

  async forceRelease(key: string): Promise<boolean> {
    checkKey(key)
    this.#assertOpen()
    const holders = this.#store.holders(key)
    for (const lock of holders) lock.lose('forced')
    return holders.length > 0
  }

  async ping(): Promise<void> {
    this.#assertOpen()
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const limit of [...this.#waits]) limit.end(new ClosedError('memory locker'))
    for (const lock of [...this.#held]) lock.lose('closed')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #check(keys: readonly string[], options: AcquireOptions | undefined): ResolvedAcquireOptions {
    checkKeys(keys)
    const resolved = checkAcquireOptions(options, this)
    this.#assertOpen()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  #assertOpen(): void {
    if (this.#closed) throw new ClosedError('memory locker')
  }

  #tryAll(keys: readonly string[], resolved: ResolvedAcquireOptions): Lock[] | null {
    const turns = new Map<string, Turn>()
    for (const key of new Set(keys)) {
      this.#store.sweep(key)
      const turn = this.#store.queue.tryEnter(key, resolved.mode)
      if (turn === null) {
        for (const taken of turns.values()) taken.leave()
        return null
      }
      turns.set(key, turn)
    }
    const locks = new Map([...turns].map(([key, turn]) => [key, this.#grant(turn, resolved)]))
    return keys.flatMap((key) => locks.get(key) ?? [])
  }

  #grant(turn: Turn, resolved: ResolvedAcquireOptions): Lock {
    const lock = new LockHandle<MemoryGrant>(
      {
        key: turn.key,
        mode: turn.mode,
        fencingToken: this.#store.nextToken(),
        sessionId: this.#sessionId,
        acquiredAtMs: Date.now(),
        startedAt: this.#clock.now(),
        ttlMs: resolved.ttlMs,
        maxHoldMs: resolved.maxHoldMs,
        minHoldMs: resolved.minHoldMs,
        grant: { turn, metadata: resolved.metadata },
      },
      this.#family,
    )
    this.#store.add(lock)
    this.#held.add(lock)
    return lock
  }

  #forget(lock: LockHandle<MemoryGrant>, keepMs: number): void {
    this.#held.delete(lock)
    this.#store.remove(lock, keepMs, this.#clock)
  }
}

function storeOf(object: object): MemoryStore {
  const known = stores.get(object)
  if (known !== undefined) return known
  const store = new MemoryStore()
  stores.set(object, store)
  return store
}

function holderOf(lock: LockHandle<MemoryGrant>): LockHolder {
  const remainingMs = lock.remainingMs()
  return {
    mode: lock.mode,
    sessionId: lock.sessionId,
    acquirerName: `${hostname()}:${process.pid}`,
    acquirerAddress: null,
    pid: process.pid,
    acquiredAt: lock.acquiredAt,
    expiresAt: remainingMs === Number.POSITIVE_INFINITY ? null : new Date(Date.now() + remainingMs),
    fencingToken: lock.fencingToken,
    metadata: lock.grant.metadata,
  }
}
