import { randomBytes } from 'node:crypto'

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** Seconds between the Unix epoch and the KSUID epoch (2014-05-13). */
const epochSeconds = 1_400_000_000

/**
 * A KSUID: 27 characters of base 62 that sort by the second in which they were made; 32 bits of time, 128 of randomness.
 * Fits the classic `session_id varchar(27)`. Source: https://github.com/segmentio/ksuid.
 */
export function ksuid(
  source: { readonly now?: () => number; readonly random?: (size: number) => Uint8Array } = {},
): string {
  const seconds = Math.floor((source.now ?? Date.now)() / 1_000) - epochSeconds
  let value = BigInt(seconds >>> 0)
  for (const byte of (source.random ?? randomBytes)(16)) value = (value << 8n) | BigInt(byte)
  let text = ''
  for (let position = 0; position < 27; position += 1) {
    text = alphabet.charAt(Number(value % 62n)) + text
    value /= 62n
  }
  return text
}
