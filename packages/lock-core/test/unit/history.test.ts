import { describe, expect, it } from 'vitest'
import { exclusionViolations, fencingViolations, History, type Hold } from '../../src/conformance/history.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'

const hold = (from: number, until: number | null, fields: Partial<Hold> = {}): Hold => ({
  key: 'a',
  mode: 'exclusive',
  holder: `from ${from}`,
  token: BigInt(from + 1),
  from,
  until,
  ...fields,
})

describe('exclusionViolations', () => {
  it('accepts holds that follow each other, and holds of different keys', () => {
    expect(exclusionViolations([hold(0, 1), hold(1, 2), hold(0, 5, { key: 'b' })])).toEqual([])
  })

  it('accepts shared holds that overlap', () => {
    expect(exclusionViolations([hold(0, 5, { mode: 'shared' }), hold(1, 3, { mode: 'shared' }), hold(5, 6)])).toEqual(
      [],
    )
  })

  it.each([
    ['two exclusive ones', [hold(0, 3), hold(2, 4)]],
    ['one inside the other, recorded later', [hold(2, 3), hold(0, 9)]],
    ['an exclusive one beside a shared one', [hold(0, 3, { mode: 'shared' }), hold(2, 4)]],
    ['a shared one beside an exclusive one', [hold(0, 3), hold(2, 4, { mode: 'shared' })]],
    ['one that never ended', [hold(0, null), hold(100, 101)]],
    ['a long one behind a short one', [hold(0, 10), hold(20, 90), hold(30, 31)]],
  ])('finds %s', (_, holds) => {
    expect(exclusionViolations(holds)).toHaveLength(1)
  })
})

describe('fencingViolations', () => {
  it('accepts increasing tokens, with gaps', () => {
    expect(fencingViolations([hold(0, 1, { token: 3n }), hold(2, 3, { token: 9n })])).toEqual([])
  })

  it('accepts any order among shared holds that overlap', () => {
    const shared = { mode: 'shared' } as const
    expect(fencingViolations([hold(0, 5, { ...shared, token: 2n }), hold(1, 6, { ...shared, token: 1n })])).toEqual([])
  })

  it('accepts any order among shared holds: they may have been granted together', () => {
    const shared = { mode: 'shared' } as const
    expect(fencingViolations([hold(0, 1, { ...shared, token: 2n }), hold(2, 3, { ...shared, token: 1n })])).toEqual([])
  })

  it('finds a shared hold after an exclusive one with a lower token', () => {
    expect(fencingViolations([hold(0, 1, { token: 2n }), hold(2, 3, { mode: 'shared', token: 1n })])).toHaveLength(1)
  })

  it.each([
    ['a token that fell', [hold(0, 1, { token: 5n }), hold(2, 3, { token: 4n })]],
    ['a missing token', [hold(0, 1, { token: null })]],
  ])('finds %s', (_, holds) => {
    expect(fencingViolations(holds)).toHaveLength(1)
  })

  it('finds a token that came twice, also among holds that overlap', () => {
    expect(
      fencingViolations([hold(0, null, { token: 5n, mode: 'shared' }), hold(2, 3, { token: 5n, mode: 'shared' })]),
    ).toHaveLength(1)
  })
})

describe('History', () => {
  it('records the order in which holds began and ended', async () => {
    const locker = createMemoryLocker()
    const history = new History()
    const one = await locker.acquire('a')
    const leave = history.enter(one, 'one')
    const two = await locker.acquire('b')
    history.enter(two, 'two')
    leave()
    leave()
    expect(history.holds.map(({ holder, from, until }) => ({ holder, from, until }))).toEqual([
      { holder: 'one', from: 0, until: 2 },
      { holder: 'two', from: 1, until: null },
    ])
    await locker.close()
  })
})
