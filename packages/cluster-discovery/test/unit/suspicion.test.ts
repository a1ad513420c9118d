import { describe, expect, it } from 'vitest'
import type { Look, Suspect } from '../../src/record.ts'
import { confirmMs, Suspicion } from '../../src/suspicion.ts'

const suspect = (id: string, fields: Partial<Suspect> = {}): Suspect => ({
  id,
  incarnation: 1n,
  lastBeat: '1000',
  stale: true,
  gone: false,
  ...fields,
})
const look = (suspects: readonly Suspect[], fields: Partial<Look> = {}): Look => ({
  members: 10,
  doubtful: suspects.length,
  uptimeMs: 1e9,
  suspects,
  ...fields,
})
const ids = (suspects: readonly Suspect[]): string[] => suspects.map((each) => each.id)
const long = 1e9

describe('silence', () => {
  it('takes two looks', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    expect(suspicion.judge(look([suspect('a')]), 0, long, 500).stale).toEqual([])
    expect(ids(suspicion.judge(look([suspect('a')]), 1_000, long, 500).stale)).toEqual(['a'])
  })

  it('begins anew after a beat between the looks', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look([suspect('a')]), 0, long, 500)
    expect(suspicion.judge(look([suspect('a', { lastBeat: '2000' })]), 1_000, long, 500).stale).toEqual([])
  })

  it('is nobody else’s fault for one ttl after the sweeper lost touch, or the server started', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look([suspect('a')]), 0, 6_000, 500)
    expect(suspicion.judge(look([suspect('a')]), 1_000, 7_000, 500).stale).toEqual([])
    expect(suspicion.judge(look([suspect('a')], { uptimeMs: 7_999 }), 2_000, long, 500).stale).toEqual([])
    suspicion.judge(look([suspect('a')]), 3_000, 9_000, 500)
    expect(ids(suspicion.judge(look([suspect('a')]), 4_000, 10_000, 500).stale)).toEqual(['a'])
  })
})

describe('a marker that is gone', () => {
  const gone = suspect('a', { stale: false, gone: true })

  it('asks for another look, and counts after it', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    expect(suspicion.judge(look([gone]), 0, long, 500)).toMatchObject({ crashed: [], lookAgainMs: 500 })
    expect(suspicion.judge(look([gone]), 499, long, 500)).toMatchObject({ crashed: [], lookAgainMs: 500 })
    expect(ids(suspicion.judge(look([gone]), 500, long, 500).crashed)).toEqual(['a'])
  })

  it('means nothing when the node has beaten since', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look([gone]), 0, long, 500)
    expect(suspicion.judge(look([{ ...gone, lastBeat: '2000' }]), 600, long, 500).crashed).toEqual([])
  })
})

describe('a mass death', () => {
  const many = ['a', 'b', 'c', 'd'].map((id) => suspect(id))

  it('is held for one ttl, and then believed', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look(many), 0, long, 500)
    expect(suspicion.judge(look(many), 1_000, long, 500)).toMatchObject({
      stale: [],
      held: { doubtful: 4, remainingMs: 8_000 },
    })
    expect(suspicion.judge(look(many), 8_999, long, 500).stale).toEqual([])
    expect(ids(suspicion.judge(look(many), 9_000, long, 500).stale)).toEqual(['a', 'b', 'c', 'd'])
  })

  it('is seen although its nodes come due one by one', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look([suspect('a')], { doubtful: 4 }), 0, long, 500)
    expect(suspicion.judge(look([suspect('a')], { doubtful: 4 }), 1_000, long, 500)).toMatchObject({
      stale: [],
      held: { members: 10 },
    })
  })

  it('is none with fewer than three, or 30 %', () => {
    const two = many.slice(0, 2)
    const small = new Suspicion({ ttlMs: 8_000 })
    small.judge(look(two, { members: 3 }), 0, long, 500)
    expect(ids(small.judge(look(two, { members: 3 }), 1_000, long, 500).stale)).toEqual(['a', 'b'])
    const large = new Suspicion({ ttlMs: 8_000 })
    large.judge(look(many, { members: 14 }), 0, long, 500)
    expect(large.judge(look(many, { members: 14 }), 1_000, long, 500).stale).toHaveLength(4)
  })

  it('is over when they come back', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    suspicion.judge(look(many), 0, long, 500)
    suspicion.judge(look(many), 1_000, long, 500)
    suspicion.judge(look([]), 2_000, long, 500)
    suspicion.judge(look(many), 20_000, long, 500)
    expect(suspicion.judge(look(many), 21_000, long, 500)).toMatchObject({ stale: [], held: { remainingMs: 8_000 } })
  })
})

describe('the time between two looks at a lost marker', () => {
  it.each([
    [1, 8_000, 300],
    [75, 8_000, 1_500],
    [5_000, 8_000, 4_000],
    [5_000, 600, 1_000],
  ])('with round trips of %d ms and a ttl of %d ms is %d ms', (roundTripMs, ttlMs, waitMs) =>
    expect(confirmMs(roundTripMs, ttlMs)).toBe(waitMs),
  )

  const gone = suspect('a', { stale: false, gone: true })
  it('suffices on a slow machine for a node that lost its connections and beats again after 1.3 seconds', () => {
    const suspicion = new Suspicion({ ttlMs: 8_000 })
    const waitMs = confirmMs(80, 8_000)
    expect(suspicion.judge(look([gone]), 0, long, waitMs)).toMatchObject({ crashed: [], lookAgainMs: waitMs })
    expect(suspicion.judge(look([gone]), 1_000, long, waitMs)).toMatchObject({ crashed: [] })
    expect(suspicion.judge(look([]), 1_300, long, waitMs)).toMatchObject({ crashed: [] })
    // The next time counts from its own first look.
    expect(suspicion.judge(look([gone]), 2_000, long, waitMs)).toMatchObject({ crashed: [] })
    expect(suspicion.judge(look([gone]), 2_000 + waitMs, long, waitMs)).toMatchObject({ crashed: [{ id: 'a' }] })
  })
})
