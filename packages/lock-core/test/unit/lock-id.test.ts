import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lockId } from '../../src/index.ts'

const { vectors } = JSON.parse(readFileSync(new URL('../fixtures/lock-id.json', import.meta.url), 'utf8')) as {
  vectors: { namespace: number; key: string; lockId: string }[]
}

/** The definition, word for word, with BigInt throughout. */
function reference(namespace: number, key: string): bigint {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.from(key)])
  bytes.writeInt32BE(namespace)
  let hash = 0xcbf29ce484222325n
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return BigInt.asIntN(64, hash)
}

const int32 = fc.integer({ min: -2_147_483_648, max: 2_147_483_647 })
const wellFormed = fc.string({ unit: 'binary', maxLength: 200 })

describe('lockId', () => {
  it.each(vectors)('hashes $key in namespace $namespace as other languages do', ({ namespace, key, lockId: id }) => {
    expect(lockId(namespace, key)).toBe(BigInt(id))
  })

  it('equals the definition for any namespace and any well-formed key', () => {
    fc.assert(
      fc.property(int32, wellFormed, (namespace, key) => lockId(namespace, key) === reference(namespace, key)),
      {
        numRuns: 2_000,
      },
    )
  })

  it('fits a signed 64-bit integer', () => {
    fc.assert(
      fc.property(
        int32,
        wellFormed,
        (namespace, key) => BigInt.asIntN(64, lockId(namespace, key)) === lockId(namespace, key),
      ),
    )
  })

  it.each(['\ud800', 'a\udc00', '\ud83d', 'x\ud83dx'])('refuses the lone surrogate in %j', (key) => {
    expect(() => lockId(0, key)).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS' }))
  })

  it('says how it is called to who gives the key alone', () => {
    expect(() => Reflect.apply(lockId, null, ['report'])).toThrow('got "report"; call lockId(namespace, key)')
  })

  it.each([undefined, null, 7, {}])('refuses the key %j', (key) => {
    expect(() => lockId(0, key as unknown as string)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'key' }),
    )
  })

  it.each([1.5, 2_147_483_648, -2_147_483_649, Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses the namespace %s',
    (namespace) => {
      expect(() => lockId(namespace, 'a')).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'namespace' }),
      )
    },
  )
})
