import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseExact, rowFormat } from '../../src/row-format.ts'

it('keeps the digits of exact columns, and of integers that no number holds', () => {
  for (const flat of [true, false]) {
    const { parse } = rowFormat(['id', 'price'], flat)
    expect(parse('{"id":9007199254740993,"price":1.10,"n":1.5,"s":"\\"id\\":7","x":null}')).toEqual({
      id: '9007199254740993',
      price: '1.10',
      n: 1.5,
      s: '"id":7',
      x: null,
    })
  }
  expect(
    rowFormat(['id', 'ids'], false).parse('{"id":1,"ids":[[1,2],[9007199254740993,null]],"doc":{"id":2,"ids":[3]}}'),
  ).toEqual({
    id: '1',
    ids: [
      ['1', '2'],
      ['9007199254740993', null],
    ],
    doc: { id: 2, ids: [3] },
  })
  expect(parseExact('{"a":{"b":[12345678901234567890]},"c":123456789012345678901234567890.5}')).toEqual({
    a: { b: ['12345678901234567890'] },
    c: 1.2345678901234568e29,
  })
})

it('reads any flat row alike by the short and by the careful way', () => {
  const column = fc.string({ minLength: 1, maxLength: 12 }).filter((name) => name !== '__proto__')
  const cell = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt(),
  )
  fc.assert(
    fc.property(fc.dictionary(column, cell, { maxKeys: 6 }), fc.array(column, { maxLength: 3 }), (row, others) => {
      const exact = [...Object.keys(row).slice(0, 2), ...others]
      const text = `{${Object.entries(row)
        .map(([name, value]) => `${JSON.stringify(name)}:${typeof value === 'bigint' ? value : JSON.stringify(value)}`)
        .join(',')}}`
      expect(rowFormat(exact, true).parse(text)).toEqual(rowFormat(exact, false).parse(text))
    }),
    { numRuns: 500 },
  )
})
