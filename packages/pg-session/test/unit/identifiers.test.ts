import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { channelName, quoteIdentifier, quoteLiteral } from '../../src/index.ts'

const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0'))
const name = text.filter((value) => value.length > 0)
const shortName = name.filter((value) => Buffer.byteLength(value) <= 63)
const longName = fc.string({ unit: 'binary', minLength: 64, maxLength: 300 }).filter((value) => !value.includes('\0'))

/** How the server's scanner reads them. */
const readIdentifier = (sql: string): string => {
  expect(sql).toMatch(/^"(?:[^"]|"")+"$/)
  return sql.slice(1, -1).replaceAll('""', '"')
}
const readLiteral = (sql: string): string => {
  if (!sql.startsWith(' E')) {
    expect(sql).toMatch(/^'(?:[^'\\]|'')*'$/)
    return sql.slice(1, -1).replaceAll("''", "'")
  }
  expect(sql).toMatch(/^ E'(?:[^'\\]|''|\\\\)*'$/)
  return sql.slice(3, -1).replaceAll("''", "'").replaceAll('\\\\', '\\')
}

describe('quoteIdentifier', () => {
  it('is read back as the name, whatever it holds', () => {
    fc.assert(fc.property(shortName, (value) => readIdentifier(quoteIdentifier(value)) === value))
  })

  it.each([
    ['an empty name', ''],
    ['NUL', 'a\0b'],
    ['a lone surrogate', 'a\ud800'],
    ['64 bytes', 'é'.repeat(32)],
    ['no string', 5 as unknown as string],
  ])('refuses %s', (_what, value) => {
    expect(() => quoteIdentifier(value, 'schema')).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'schema' }),
    )
  })
})

describe('quoteLiteral', () => {
  it('is read back as the text, under either setting of standard_conforming_strings', () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ unit: fc.constantFrom("'", '\\', 'E', 'x') })), (value) => {
        expect(readLiteral(quoteLiteral(value))).toBe(value)
      }),
    )
  })
})

describe('channelName', () => {
  it('leaves what fits as it is', () => {
    fc.assert(fc.property(shortName, (value) => channelName(value) === value))
  })

  it('fits into 63 bytes of whole characters, and says what it stands for', () => {
    fc.assert(
      fc.property(longName, (value) => {
        const channel = channelName(value)
        expect(Buffer.byteLength(channel)).toBeLessThanOrEqual(63)
        expect(Buffer.byteLength(channel)).toBeGreaterThan(56)
        expect(channel.isWellFormed()).toBe(true)
        expect(value.startsWith(channel.slice(0, channel.lastIndexOf('~')))).toBe(true)
        expect(channelName(channel)).toBe(channel)
      }),
    )
  })

  it('tells apart names that the server would cut to the same 63 bytes', () => {
    fc.assert(
      fc.property(longName, name, name, (prefix, a, b) => {
        expect(channelName(prefix + a) === channelName(prefix + b)).toBe(a === b)
      }),
    )
  })
})
