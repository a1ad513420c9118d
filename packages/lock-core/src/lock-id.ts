import { describeValue } from './adapter/describe-value.ts'
import { ConfigurationError } from './errors.ts'

/** The low half of the FNV prime 2^40 + 435; its high part is a shift. */
const primeLow = 435

const view = new DataView(new ArrayBuffer(8))

/**
 * The id of a named lock in the bigint space of Postgres advisory locks: FNV-1a, 64 bit, over the namespace (int32, big
 * endian) and the UTF-8 bytes of the key, read as a signed integer. Services in other languages that hash alike share
 * locks with us. Source: http://www.isthe.com/chongo/tech/comp/fnv/.
 *
 * @param namespace int32
 * @param key any well-formed string; empty and NUL too
 * @throws {ConfigurationError}
 * @example
 * lockId(7, 'orders') // 5800029129394743969n
 */
export function lockId(namespace: number, key: string): bigint {
  if (typeof namespace !== 'number' || (namespace | 0) !== namespace) {
    throw new ConfigurationError(
      `option namespace: expected an integer of 32 bits; got ${describeValue(namespace)}; call lockId(namespace, key)`,
      { option: 'namespace' },
    )
  }
  if (typeof key !== 'string') {
    throw new ConfigurationError(`option key: expected a string; got ${describeValue(key)}`, { option: 'key' })
  }
  // The 64-bit offset basis cbf29ce484222325 in two halves.
  let high = 0xcbf29ce4 | 0
  let low = 0x84222325 | 0

  const eat = (byte: number): void => {
    low ^= byte
    // (high, low) * (2^40 + 435) mod 2^64, with products of 16-bit limbs, which fit 32 bits.
    const first = (low & 0xffff) * primeLow
    const second = (low >>> 16) * primeLow + (first >>> 16)
    high = (Math.imul(high, primeLow) + (second >>> 16) + (low << 8)) | 0
    low = (second << 16) | (first & 0xffff)
  }

  eat(namespace >>> 24)
  eat((namespace >>> 16) & 0xff)
  eat((namespace >>> 8) & 0xff)
  eat(namespace & 0xff)
  for (let index = 0; index < key.length; index += 1) {
    const unit = key.charCodeAt(index)
    if (unit < 0x80) {
      eat(unit)
    } else if (unit < 0x800) {
      eat(0xc0 | (unit >>> 6))
      eat(0x80 | (unit & 0x3f))
    } else if (unit < 0xd800 || unit > 0xdfff) {
      eat(0xe0 | (unit >>> 12))
      eat(0x80 | ((unit >>> 6) & 0x3f))
      eat(0x80 | (unit & 0x3f))
    } else {
      const code = key.codePointAt(index) ?? 0
      if (code < 0x10000) {
        throw new ConfigurationError('option key: expected well-formed Unicode; got a lone surrogate', {
          option: 'key',
        })
      }
      index += 1
      eat(0xf0 | (code >>> 18))
      eat(0x80 | ((code >>> 12) & 0x3f))
      eat(0x80 | ((code >>> 6) & 0x3f))
      eat(0x80 | (code & 0x3f))
    }
  }
  view.setInt32(0, high)
  view.setInt32(4, low)
  return view.getBigInt64(0)
}
