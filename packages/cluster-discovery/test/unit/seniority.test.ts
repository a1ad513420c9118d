import { describe, expect, it } from 'vitest'
import type { Node } from '../../src/node.ts'
import { asksWhoSweeps, standsBy } from '../../src/seniority.ts'

/** As a view has them: the senior first. */
const members = (count: number): readonly Node[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `node-${index}`,
    incarnation: BigInt(index + 1),
    name: '',
    address: null,
    metadata: {},
    state: 'up',
    joinedAt: new Date(0),
    version: BigInt(index + 1),
  }))
const never = (): number => 0.999_999

describe('among the members', () => {
  it('two stand by, whoever sweeps, and each of them always asks', () => {
    const all = members(40)
    for (const sweeper of all) {
      const standing = all.filter((each) => standsBy(each, { ...sweeper, epoch: 1n }, all))
      expect(standing).toEqual(all.filter(({ id }) => id !== sweeper.id).slice(0, 2))
      for (const { id } of standing) expect(asksWhoSweeps(id, all, never)).toBe(true)
    }
  })

  it('an earlier incarnation does not stand by', () => {
    const all = members(3)
    expect(standsBy({ id: 'node-1', incarnation: 1n }, { id: 'node-0', incarnation: 1n, epoch: 1n }, all)).toBe(false)
  })

  it('all of eight ask, of more about eight and the senior', () => {
    for (const { id } of members(8)) expect(asksWhoSweeps(id, members(8), never)).toBe(true)
    for (const count of [100, 1_000]) {
      const all = members(count)
      // As if each had drawn another part of the interval.
      const asking = all.filter(({ id }, index) => asksWhoSweeps(id, all, () => index / count))
      expect(asking.length).toBe(8)
      expect(all.filter(({ id }) => asksWhoSweeps(id, all, never))).toEqual(all.slice(0, 3))
    }
  })

  it('one that knows of nobody asks', () => {
    expect(asksWhoSweeps('a', [], never)).toBe(true)
  })
})
