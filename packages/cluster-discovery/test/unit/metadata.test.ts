import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkMetadata, metadataMatches, readMetadata } from '../../src/metadata.ts'
import type { Metadata } from '../../src/node.ts'

const cyclic: { self?: unknown } = {}
cyclic.self = cyclic

describe('metadata', () => {
  it.each([
    ['nothing', undefined],
    ['an array', []],
    ['a string', 'role'],
    ['a date', { since: new Date() }],
    ['a class instance', { map: new Map() }],
    ['a function', { run: () => 1 }],
    ['NaN', { load: Number.NaN }],
    ['a bigint', { count: 1n }],
    ['undefined inside', { zone: undefined }],
    ['a cycle', cyclic],
    ['NUL', { text: 'a\0b' }],
    ['NUL in a key', { 'a\0b': 1 }],
    ['a lone surrogate', { text: '\ud800' }],
    ['__proto__', JSON.parse('{"__proto__": {"admin": true}}')],
    ['17 KiB', { text: 'x'.repeat(17 * 1024) }],
    ['6,000 three-byte characters', { text: '€'.repeat(6_000) }],
  ])('refuses %s with ConfigurationError', (_, value) => {
    expect(() => checkMetadata(value)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: expect.any(String) }),
    )
  })

  it('keeps plain JSON as it is, frozen, and apart from the original', () => {
    const original = { role: 'web', tags: ['a', { b: null }], n: 1.5 }
    const copy = checkMetadata(original)
    expect(copy).toEqual(original)
    original.tags.push('later')
    expect(copy).toEqual({ role: 'web', tags: ['a', { b: null }], n: 1.5 })
    expect(Object.isFrozen(copy.tags)).toBe(true)
  })

  it('lets nobody reach Object.prototype through what others wrote', () => {
    const read = readMetadata(
      JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}'),
    )
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype)
    expect(metadataMatches({}, { toString: 'x' } as unknown as Metadata)).toBe(false)
  })
})

describe('a filter', () => {
  it.each([
    [{ role: 'web' }, true],
    [{ role: 'db' }, false],
    [{ zone: { region: 'eu' } }, true],
    [{ zone: { region: 'us' } }, false],
    [{ tags: ['a', 'b'] }, true],
    [{ tags: ['a'] }, false],
    [{ missing: null }, false],
    [{}, true],
  ] as const)('%j: %s', (wanted, matches) => {
    expect(metadataMatches({ role: 'web', zone: { region: 'eu', rack: 4 }, tags: ['a', 'b'] }, wanted)).toBe(matches)
  })

  it('matches whatever it was made from', () => {
    const metadata = fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 5 })
    fc.assert(
      fc.property(metadata, (value) => {
        const plain: Metadata = JSON.parse(JSON.stringify(value))
        expect(metadataMatches(plain, plain)).toBe(true)
      }),
    )
  })
})
