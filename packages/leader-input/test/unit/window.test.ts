import fc from 'fast-check'
import { expect, it } from 'vitest'
import { afterWindow, type Cursor, endOfLineage } from '../../src/log/cursor.ts'
import {
  emptySnapshot,
  formatSnapshot,
  isEmpty,
  isVisible,
  parseSnapshot,
  type Snapshot,
  windowRange,
} from '../../src/log/window.ts'

/** Transactions begin and end in some order; in between somebody takes snapshots, as the server does. */
const history = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.nat(7).map((who) => ({ kind: 'toggle' as const, who })) },
    { weight: 1, arbitrary: fc.constant({ kind: 'look' as const }) },
  ),
  { maxLength: 200 },
)

const play = (
  steps: readonly ({ kind: 'toggle'; who: number } | { kind: 'look' })[],
): { snapshots: Snapshot[]; finishedBy: Map<bigint, number> } => {
  let next = 10n
  let latestCompleted = 9n
  const running = new Map<number, bigint>()
  const snapshots: Snapshot[] = []
  const finishedBy = new Map<bigint, number>()
  for (const step of [...steps, { kind: 'look' as const }]) {
    if (step.kind === 'toggle') {
      const xid = running.get(step.who)
      if (xid === undefined) running.set(step.who, next++)
      else {
        running.delete(step.who)
        finishedBy.set(xid, snapshots.length)
        if (xid > latestCompleted) latestCompleted = xid
      }
      continue
    }
    // As GetSnapshotData does: xmax is the latest that has ended, plus one.
    const xmax = latestCompleted + 1n
    const xip = [...running.values()].filter((xid) => xid < xmax).sort((a, b) => (a < b ? -1 : 1))
    snapshots.push({ xmin: xip[0] ?? xmax, xmax, xip })
  }
  return { snapshots, finishedBy }
}

it('puts each transaction that ends into exactly one window, by its range', () => {
  fc.assert(
    fc.property(history, (steps) => {
      const { snapshots, finishedBy } = play(steps)
      const windows = snapshots.map((next, i) => windowRange(snapshots[i - 1] ?? emptySnapshot, next))
      for (const [xid, looksBefore] of finishedBy) {
        const found = windows.flatMap(({ fromXid, untilXid, inProgress, late }, i) =>
          (xid >= fromXid && xid < untilXid && !inProgress.includes(xid)) || late.includes(xid) ? [i] : [],
        )
        expect(found).toEqual(looksBefore < windows.length ? [looksBefore] : [])
      }
    }),
    { numRuns: 500 },
  )
})

it('calls a window empty only when no transaction can be in it', () => {
  fc.assert(
    fc.property(history, (steps) => {
      const { snapshots, finishedBy } = play(steps)
      snapshots.forEach((next, i) => {
        const prev = snapshots[i - 1] ?? emptySnapshot
        const hasAny = [...finishedBy.keys()].some((xid) => isVisible(next, xid) && !isVisible(prev, xid))
        if (hasAny) expect(isEmpty(windowRange(prev, next))).toBe(false)
      })
    }),
    { numRuns: 500 },
  )
})

it('reads and writes snapshots as the server does', () => {
  for (const text of ['3:3:', '10:20:10,14,15', endOfLineage]) expect(formatSnapshot(parseSnapshot(text))).toBe(text)
  expect(parseSnapshot('10:20:10,14')).toEqual({ xmin: 10n, xmax: 20n, xip: [10n, 14n] })
})

const cursor: Cursor = {
  prev: parseSnapshot('10:20:10'),
  lo: 5n,
  pinned: null,
  ownXids: [12n, 25n],
  backfill: null,
  lineage: 1,
}

it('forgets own transactions once they are behind the cursor', () => {
  const after = afterWindow(cursor, { next: parseSnapshot('21:21:'), hi: 9n, nextLo: 7n, lastSeq: 9n })
  expect(after).toMatchObject({ lo: 7n, ownXids: [25n], pinned: null, lineage: 1 })
})

it('begins the next lineage where the last one ends, after the window in which it was rebased', () => {
  const rest = afterWindow(cursor, { next: parseSnapshot('21:21:'), hi: 9n, nextLo: -1n, lastSeq: 4n })
  expect(rest).toMatchObject({ prev: { xmax: 21n }, lo: 0n, pinned: { lastSeq: 0n, hi: 9n }, lineage: 1 })
  if (rest.pinned === null) throw new Error('expected a window')
  expect(afterWindow(rest, rest.pinned)).toMatchObject({ prev: emptySnapshot, lo: 0n, pinned: null, lineage: 2 })
})
