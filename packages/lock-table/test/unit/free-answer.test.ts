import { expect, it } from 'vitest'
import { tokensFor } from '../../src/free-answer.ts'

const keys = ['a', 'b,"', 'c']

it.each([
  { what: 'all were granted', answer: ['all', '{7,8,9}', '0'], tokens: ['7', '8', '9'] },
  { what: 'all, in another order', answer: ['["c","b,\\"","a"]', '{7,8,9}', '0'], tokens: ['9', '8', '7'] },
  { what: 'some were', answer: ['["c","a"]', '{7,8}', '0'], tokens: ['8', undefined, '7'] },
  { what: 'none was', answer: [null, null, '0'], tokens: [undefined, undefined, undefined] },
] as const)('the token of each key when $what', ({ answer, tokens }) => {
  const given = tokensFor(keys, answer)
  expect(keys.map((_, index) => given[index])).toEqual(tokens)
})

it('one grant is for one of those who asked for the key', () => {
  expect(tokensFor(['a', 'a'], ['["a"]', '{7}', '0'])).toEqual(['7', undefined])
})
