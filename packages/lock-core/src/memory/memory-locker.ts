import { UnsupportedError } from '../errors.ts'
import type { Locker } from '../locker.ts'
import type { ObservabilityOptions } from '../observability.ts'

/** Options of the memory locker. */
export interface MemoryLockerOptions extends ObservabilityOptions {
  /** Lockers with the same store object share their locks. @default a store of its own */
  store?: object | undefined
  /** Milliseconds on a monotonic line. @default the machine's clock */
  now?: (() => number) | undefined
}

/** Locks within one process, for tests and for services with one replica. */
export function createMemoryLocker(_options: MemoryLockerOptions = {}): Locker {
  throw new UnsupportedError('createMemoryLocker is not there yet')
}
