import { systemClock } from '../adapter/clock.ts'
import { ksuid } from '../adapter/ksuid.ts'
import { type LockFamily, LockHandle } from '../adapter/lock-handle.ts'
import { checkAcquireOptions, checkKey } from '../adapter/options.ts'
import { ClosedError } from '../errors.ts'
import type { AcquireOptions, Lock, Locker, LockerCapabilities, LockStatus } from '../locker.ts'

const capabilities: LockerCapabilities = {
  modes: ['exclusive', 'shared'],
  fencing: 'none',
  lease: false,
  fifo: 'process',
  durable: false,
  crossProcess: false,
  lossNotice: 'best-effort',
}

/**
 * Grants every lock to everyone: **it excludes nobody**. For tests of code that takes a locker, and for development with
 * a single replica. It does not pass the conformance suite, as it should not.
 */
export function createNoopLocker(): Locker {
  return new NoopLocker()
}

class NoopLocker implements Locker {
  readonly capabilities: LockerCapabilities = capabilities
  readonly ttlMs: number = Number.POSITIVE_INFINITY
  readonly #sessionId = ksuid()
  readonly #held = new Set<LockHandle<null>>()
  #closed = false
  readonly #family: LockFamily<null> = {
    expiry: 'lease-expired',
    enforceTtl: true,
    hooks: {
      release: async (lock) => this.#forget(lock),
      refresh: async () => {},
      lost: (lock) => this.#forget(lock),
    },
  }

  async tryAcquire(key: string, options?: AcquireOptions): Promise<Lock> {
    checkKey(key)
    const { mode, ttlMs, maxHoldMs, signal } = checkAcquireOptions(options, this)
    if (this.#closed) throw new ClosedError('noop locker')
    signal?.throwIfAborted()
    const lock = new LockHandle<null>(
      {
        key,
        mode,
        fencingToken: null,
        sessionId: this.#sessionId,
        acquiredAtMs: Date.now(),
        startedAt: systemClock.now(),
        ttlMs,
        maxHoldMs,
        grant: null,
      },
      this.#family,
    )
    this.#held.add(lock)
    return lock
  }

  acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    return this.tryAcquire(key, options)
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    if (this.#closed) throw new ClosedError('noop locker')
    return {
      key,
      isAcquired: false,
      mode: null,
      sessionId: null,
      acquirerName: null,
      acquirerAddress: null,
      acquiredAt: null,
      expiresAt: null,
      fencingToken: null,
      metadata: null,
      waiters: 0,
      holders: [],
    }
  }

  async ping(): Promise<void> {
    if (this.#closed) throw new ClosedError('noop locker')
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const lock of [...this.#held]) lock.lose('closed')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #forget(lock: LockHandle<null>): void {
    this.#held.delete(lock)
  }
}
