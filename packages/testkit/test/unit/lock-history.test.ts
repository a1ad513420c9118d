import { LockHistory, type LockObservation, overlaps, staleWrites } from '@x/testkit'
import { describe, expect, it } from 'vitest'

const granted = (hold: number, at: number, mode: 'exclusive' | 'shared' = 'exclusive'): LockObservation => ({
  type: 'granted',
  ...{ hold, at, mode, key: 'k', token: String(hold) },
})
const held = (hold: number, at: number): LockObservation => ({ type: 'held', hold, at })

const record = (...entries: readonly (readonly [process: string, observation: LockObservation])[]): LockHistory => {
  const history = new LockHistory()
  for (const [process, observation] of entries) history.record(process, observation)
  return history
}

describe('overlaps', () => {
  it('finds two processes that believed at the same time, and how long', () => {
    const history = record(['a', granted(1, 100)], ['a', held(1, 500)], ['b', granted(2, 300)], ['b', held(2, 900)])
    expect(overlaps(history.holds)).toMatchObject([{ earlier: { process: 'a' }, later: { process: 'b' }, micros: 200 }])
  })

  it('finds it though others came and went meanwhile', () => {
    const history = record(['a', granted(1, 0)], ['b', granted(2, 10)], ['c', granted(3, 20)], ['a', held(1, 100)])
    expect(overlaps(history.holds).map(({ later }) => later.process)).toEqual(['b', 'c'])
  })

  it('lets holds follow each other, and shared ones overlap', () => {
    const history = record(
      ['a', granted(1, 100)],
      ['a', held(1, 200)],
      ['b', granted(2, 200, 'shared')],
      ['c', granted(3, 250, 'shared')],
      ['b', held(2, 400)],
      ['c', held(3, 400)],
    )
    expect(overlaps(history.holds)).toEqual([])
  })

  it('finds an exclusive hold within a shared one', () => {
    const history = record(['a', granted(1, 100, 'shared')], ['a', held(1, 300)], ['b', granted(2, 200)])
    expect(overlaps(history.holds)).toHaveLength(1)
  })
})

it('staleWrites finds a write that the fence should have refused', () => {
  const writes = [5n, 7n, 7n, 6n, 8n].map((token) => ({ key: 'k', token }))
  expect(staleWrites(writes)).toEqual(['k: a write with token 6 was accepted after one with 7'])
  expect(
    staleWrites([
      { key: 'a', token: 9n },
      { key: 'b', token: 1n },
    ]),
  ).toEqual([])
})
