import { UnsupportedError } from './errors.ts'
import type { AcquireOptions, Lock, Locker, TryAcquireOptions } from './locker.ts'

/** What a semaphore is made of. */
export interface SemaphoreOptions {
  locker: Locker
  key: string
  /** 1 to 1_000; the same number in every process. */
  permits: number
}

/** One of the permits, as long as it is held. */
export interface Permit extends AsyncDisposable {
  /** Which of the permits: 0 to `permits - 1`. */
  readonly slot: number
  readonly lock: Lock
  /** Aborts when the permit is lost. */
  readonly signal: AbortSignal
  /** @throws {LockNotHeldError} on the second call, and when the permit was lost */
  release(): Promise<void>
}

/** At most `permits` holders at a time, over all processes. */
export interface Semaphore {
  readonly permits: number
  tryAcquire(options?: Omit<TryAcquireOptions, 'mode'>): Promise<Permit | null>
  acquire(options?: Omit<AcquireOptions, 'mode'>): Promise<Permit>
  withPermit<T>(fn: (permit: Permit) => T | Promise<T>, options?: Omit<AcquireOptions, 'mode'>): Promise<T>
}

/** Makes a semaphore out of any locker: each permit is a lock of its own. */
export function createSemaphore(_options: SemaphoreOptions): Semaphore {
  throw new UnsupportedError('createSemaphore is not there yet')
}
