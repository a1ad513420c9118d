import { UnsupportedError } from '@x/lock-core'

/** @throws {ConfigurationError} for an empty name, NUL, lone surrogates, or over 63 bytes, which the server would cut silently */
export function quoteIdentifier(_name: string): string {
  throw new UnsupportedError('not yet')
}

/** A string literal, safe whatever `standard_conforming_strings` says. */
export function quoteLiteral(_value: string): string {
  throw new UnsupportedError('not yet')
}

/** The name itself when it fits into 63 bytes, else a prefix of it and a hash. */
export function channelName(_name: string): string {
  throw new UnsupportedError('not yet')
}

/** Whether NOTIFY takes it: at most 7,999 bytes. */
export function payloadFits(_payload: string): boolean {
  throw new UnsupportedError('not yet')
}
