import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { plainArray, textArray } from '../../src/array-literal.ts'
import { objectOf } from '../../src/names.ts'
import { Owners } from '../../src/owners.ts'

describe('textArray', () => {
  it('quotes what the server would take for something else', () => {
    expect(textArray(['a', 'b c', '', 'NULL', 'null', '{', '"', '\\', ',', null])).toBe(
      '{a,"b c","","NULL","null","{","\\"","\\\\",",",NULL}',
    )
    expect(textArray([])).toBe('{}')
  })

  it('can be read back, whatever is in it', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.string({ unit: 'grapheme' }))), (values) => {
        expect(parse(textArray(values))).toEqual(values)
      }),
    )
  })
})

/** The server's rules for array literals (manual, section 8.15.6), for one dimension. */
const parse = (literal: string): (string | null)[] => {
  const items: (string | null)[] = []
  const pattern = /"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)/gsu
  for (const [, quoted, bare] of literal.slice(1, -1).matchAll(pattern)) {
    if (quoted !== undefined) items.push(quoted.replaceAll(/\\(.)/gsu, '$1'))
    else items.push(bare === undefined || bare.toUpperCase() === 'NULL' ? null : bare)
  }
  return items
}

describe('plainArray', () => {
  it('writes numbers, booleans and null', () => {
    expect(plainArray([1n, 2, true, null])).toBe('{1,2,true,NULL}')
  })
})

describe('Owners', () => {
  it('gives 27 characters, different each time, all of one process', () => {
    const owners = new Owners()
    const names = Array.from({ length: 10_000 }, () => owners.next())
    expect(new Set([owners.sessionId, ...names]).size).toBe(10_001)
    for (const name of names) expect(name).toMatch(/^[0-9A-Za-z]{27}$/)
    expect(new Set(names.map((name) => name.slice(0, 19))).size).toBe(1)
    expect(new Owners().sessionId.slice(0, 19)).not.toBe(owners.sessionId.slice(0, 19))
  })
})

describe('objectOf', () => {
  it.each([
    ['locks', 'lock_waiters', 'lock_waiters'],
    ['locks', 'locks', 'locks'],
    ['doors', 'locks', 'doors'],
    ['doors', 'lock_waiters', 'doors_waiters'],
    ['doors', 'active_locks', 'active_doors'],
  ])('of %s: %s is %s', (table, name, expected) => {
    expect(objectOf(table, name)).toBe(expected)
  })
})
