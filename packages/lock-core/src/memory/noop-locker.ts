import { UnsupportedError } from '../errors.ts'
import type { Locker } from '../locker.ts'

/** Grants every lock to everyone. */
export function createNoopLocker(): Locker {
  throw new UnsupportedError('createNoopLocker is not there yet')
}
