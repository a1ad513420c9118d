import { type CoordinationError, UnsupportedError } from '@x/lock-core'

/** One of our errors for whatever the driver threw; one of ours passes through. */
export function fromPgError(_error: unknown, _context: string): CoordinationError {
  throw new UnsupportedError('not yet')
}
