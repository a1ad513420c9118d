import { UnsupportedError } from './errors.ts'
import type { AcquireOptions, Lock, Locker } from './locker.ts'

/** Several locks that are held, refreshed and released as one. */
export interface LockSet extends AsyncDisposable {
  /** One lock for each identity, in the order in which the keys were given. */
  readonly locks: readonly Lock[]
  /** The lock that stands for the key; undefined for a key that was not asked for. */
  get(key: string): Lock | undefined
  /** Aborts when the first of them is lost. */
  readonly signal: AbortSignal
  /** Whether all of them are held. */
  isHeld(): boolean
  /** @throws {LockLostError} @throws {LockNotHeldError} */
  assertHeld(): void
  /** @throws {LockNotHeldError} when one of them is not ours any more */
  refresh(ttlMs?: number): Promise<void>
  /** Releases all, also when one fails. @throws {LockNotHeldError} on the second call, and when one was lost */
  release(): Promise<void>
}

/**
 * Acquires all keys or none, in the same order for every caller: no two callers can deadlock, whatever order they name
 * the keys in.
 */
export function acquireMany(_locker: Locker, _keys: Iterable<string>, _options?: AcquireOptions): Promise<LockSet> {
  return Promise.reject(new UnsupportedError('acquireMany is not there yet'))
}
