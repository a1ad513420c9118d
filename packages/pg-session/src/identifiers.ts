import { createHash } from 'node:crypto'
import { ConfigurationError } from '@x/lock-core'

/** NAMEDATALEN - 1. The server cuts longer names silently, so that two long names would become one. */
const longestNameBytes = 63

/**
 * A name as it stands in SQL, whatever characters it has.
 *
 * @throws {ConfigurationError} for an empty name, NUL, lone surrogates, or over 63 bytes of UTF-8
 */
export function quoteIdentifier(name: string, option: string | null = null): string {
  const subject = option === null ? 'a name in SQL' : `option ${option}`
  if (typeof name !== 'string' || name.length === 0) {
    throw new ConfigurationError(`${subject}: expected a string that is not empty`, { option })
  }
  if (name.includes('\0') || !name.isWellFormed()) {
    throw new ConfigurationError(`${subject}: expected well-formed Unicode without NUL`, { option })
  }
  const bytes = Buffer.byteLength(name)
  if (bytes > longestNameBytes) {
    throw new ConfigurationError(
      `${subject}: expected at most ${longestNameBytes} bytes of UTF-8, because the server cuts longer names silently; got ${bytes}`,
      { option },
    )
  }
  return `"${name.replaceAll('"', '""')}"`
}

/**
 * A string as it stands in SQL. With a backslash in it the E'' form is used, which means the same under either setting of
 * `standard_conforming_strings`.
 *
 * @throws {ConfigurationError} for NUL or lone surrogates, which no text in Postgres can hold
 */
export function quoteLiteral(value: string): string {
  if (value.includes('\0') || !value.isWellFormed()) {
    throw new ConfigurationError('a string in SQL: expected well-formed Unicode without NUL')
  }
  const quoted = `'${value.replaceAll("'", "''")}'`
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted
}

/**
 * The channel for a name: itself when it fits into 63 bytes, else as much of it as fits and a hash of all of it. Both ends
 * must take the name through here.
 *
 * @throws {ConfigurationError} for an empty name, NUL or lone surrogates
 */
export function channelName(name: string): string {
  if (typeof name !== 'string' || name.length === 0 || name.includes('\0') || !name.isWellFormed()) {
    throw new ConfigurationError('a channel: expected well-formed Unicode that is not empty and has no NUL')
  }
  if (Buffer.byteLength(name) <= longestNameBytes) return name
  const hash = createHash('sha256').update(name).digest('base64url').slice(0, 22)
  return `${firstBytes(name, longestNameBytes - hash.length - 1)}~${hash}`
}

/** The longest prefix of whole characters within so many bytes. */
function firstBytes(text: string, limit: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(limit))
  return text.slice(0, read)
}
