import { eventOrderViolations, foldEvents, type SeenEvent, unjustifiedDowns } from '@x/testkit'
import { expect, it } from 'vitest'

const node = (id: string, incarnation = '1', state = 'up') => ({ id, incarnation, state })
const events: SeenEvent[] = [
  { type: 'snapshot', version: '3', nodes: [node('a'), node('b'), node('z', '1', 'left')] },
  { type: 'join', version: '4', node: node('c') },
  { type: 'down', version: '5', node: node('b') },
  { type: 'down', version: '6', node: node('c', '0') },
  { type: 'leave', version: '7', node: node('a') },
]

it('folds events to the members; the end of an older incarnation is not the end of the newer', () => {
  expect([...foldEvents(events).keys()]).toEqual(['c'])
})

it('finds versions that go back or repeat what a snapshot said', () => {
  expect(eventOrderViolations(events)).toEqual([])
  const [snapshot, join, down] = events
  if (!snapshot || !join || !down) throw new Error('expected three events')
  expect(eventOrderViolations([snapshot, down, join])).toEqual(['join of version 4 came after version 5'])
  expect(eventOrderViolations([snapshot, { type: 'join', version: '3', node: node('a') }])).toHaveLength(1)
})

it('finds a node that was declared down although it could beat', () => {
  const bounds = { ttlMicros: 1_000, slackMicros: 500 }
  const disturbances = new Map([
    ['stopped', [{ from: 0, until: 1_000 }]],
    ['killed', [{ from: 0, until: null }]],
    ['short', [{ from: 0, until: 300 }]],
    ['long ago', [{ from: 0, until: 1_000 }]],
  ])
  const declare = (name: string, at: number) => unjustifiedDowns([{ node: name, at }], disturbances, bounds).length
  expect([declare('stopped', 1_200), declare('killed', 300)]).toEqual([0, 0])
  expect([declare('short', 400), declare('long ago', 5_000), declare('unharmed', 100), declare('killed', -5)]).toEqual([
    1, 1, 1, 1,
  ])
})
