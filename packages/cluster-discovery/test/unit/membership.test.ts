import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Membership, type MembershipStep, nextMembership, selfAt } from '../../src/membership.ts'
import type { Node } from '../../src/node.ts'

const node = (incarnation: bigint, version = incarnation): Node => ({
  id: 'a',
  incarnation,
  name: 'a',
  address: null,
  metadata: {},
  state: 'up',
  joinedAt: new Date(0),
  version,
})
const run = (...steps: MembershipStep[]): Membership => steps.reduce(nextMembership, { at: 'idle' } as Membership)
const joined = (incarnation: bigint, confirmedUntil = 100): MembershipStep[] => [
  { step: 'join' },
  { step: 'joined', node: node(incarnation), confirmedUntil },
]

describe('membership', () => {
  it('goes from idle through member and leaving to left', () => {
    expect(run(...joined(1n)).at).toBe('member')
    expect(run(...joined(1n), { step: 'leave' }).at).toBe('leaving')
    expect(run(...joined(1n), { step: 'leave' }, { step: 'left' })).toMatchObject({
      at: 'left',
      node: { state: 'left' },
    })
  })

  it('stays away after a leave that comes when the others have let it go, and is what they say', () => {
    const gone = run(...joined(1n), { step: 'let-go', incarnation: 1n, cause: 'evicted' }, { step: 'left' })
    expect(gone).toMatchObject({ at: 'left', node: { state: 'down' } })
    expect(nextMembership(gone, { step: 'join' }).at).toBe('joining')
  })

  it('ends in the own eyes at the deadline, and comes back with an answer', () => {
    const member = run(...joined(1n, 100))
    expect(selfAt(member, 99, node(0n)).state).toBe('up')
    expect(selfAt(member, 100, node(0n)).state).toBe('down')
    const again = nextMembership(member, { step: 'confirmed', incarnation: 1n, confirmedUntil: 300 })
    expect(selfAt(again, 200, node(0n)).state).toBe('up')
  })

  it('takes no answer of an earlier life for one of this life', () => {
    const second = run(...joined(1n), { step: 'let-go', incarnation: 1n, cause: 'evicted' }, ...joined(5n))
    expect(nextMembership(second, { step: 'let-go', incarnation: 1n, cause: 'evicted' })).toBe(second)
    expect(nextMembership(second, { step: 'confirmed', incarnation: 1n, confirmedUntil: 900 })).toBe(second)
    expect(nextMembership(second, { step: 'changed', node: node(1n, 99n) })).toBe(second)
  })

  it('lets no late answer shorten the deadline', () => {
    const member = run(...joined(1n, 100), { step: 'confirmed', incarnation: 1n, confirmedUntil: 300 })
    expect(nextMembership(member, { step: 'confirmed', incarnation: 1n, confirmedUntil: 200 })).toBe(member)
  })

  it('joins again after a leave that was never answered, and stands where it stood when that fails', () => {
    const leaving = run(...joined(1n), { step: 'leave' })
    expect(nextMembership(leaving, { step: 'join' }).at).toBe('joining')
    expect(run(...joined(1n), { step: 'leave' }, { step: 'join' }, { step: 'join-failed' }).at).toBe('leaving')
    expect(run(...joined(1n), { step: 'leave' }, ...joined(2n))).toMatchObject({
      at: 'member',
      node: { incarnation: 2n },
    })
  })

  it('is over when closed: down if it never left, else as it ended', () => {
    expect(run(...joined(1n), { step: 'close' })).toMatchObject({ at: 'closed', node: { state: 'down' } })
    expect(run(...joined(1n), { step: 'leave' }, { step: 'left' }, { step: 'close' })).toMatchObject({
      node: { state: 'left' },
    })
  })

  it('never leaves closed, and is a member only between joined and whatever ended it', () => {
    const step = fc.constantFrom<MembershipStep['step']>(
      'join',
      'join-failed',
      'joined',
      'confirmed',
      'let-go',
      'leave',
      'left',
      'close',
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (names) => {
        let state: Membership = { at: 'idle' }
        let incarnation = 0n
        for (const name of names) {
          const before = state
          if (name === 'joined') incarnation += 1n
          state = nextMembership(state, {
            step: name,
            node: node(incarnation),
            incarnation,
            confirmedUntil: 10,
            cause: 'evicted',
          } as MembershipStep)
          if (before.at === 'closed') expect(state).toBe(before)
          if (state.at === 'member' && before.at !== 'member') expect([before.at, name]).toEqual(['joining', 'joined'])
        }
      }),
    )
  })
})
