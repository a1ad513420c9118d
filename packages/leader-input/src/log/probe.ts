import type { Probe } from './reader.ts'

/** When the leader looks again. */
export interface ProbeRest {
  /** Takes in what a look at the server said, and whether it brought changes. */
  seen(probe: Probe, foundChanges: boolean): void
  /** Whether an own transaction id is wanted now; tell it by `mark`. */
  readonly wantsMark: boolean
  /** An id above all that were given out when `lastNumber` was still what it is. */
  mark(xid: bigint, lastNumber: bigint): void
  /** Milliseconds to wait before the next look. */
  readonly delayMs: number
}

const shortestDelayMs = 5
const longestDelayMs = 250
/** Something may still commit: wait longer only a little, and only when nothing has come for a while. */
const uneasyDelayMs = 20
const trafficMs = 1_000

/**
 * Decides how long to rest. An unchanged sequence does not mean that nothing will come: a transaction may have drawn its
 * number and commit later, which changes nothing that a look at the sequence sees. But whoever had drawn a number when an
 * id X was taken had an id below X; once all ids up to X are over and the sequence has not moved, nothing is on its way.
 */
export function probeRest(now: () => number): ProbeRest {
  let lastNumber = -1n
  let mark: bigint | null = null
  let atRest = false
  let delayMs = shortestDelayMs
  let lastChangeAt = now()
  return {
    get wantsMark() {
      return mark === null
    },
    get delayMs() {
      return delayMs
    },
    mark(xid, number) {
      if (number === lastNumber) mark = xid
    },
    seen(probe, foundChanges) {
      if (foundChanges) lastChangeAt = now()
      if (probe.lastNumber !== lastNumber) {
        lastNumber = probe.lastNumber
        mark = null
        atRest = false
        lastChangeAt = now()
      } else if (mark !== null && probe.snapshot.xmin > mark) {
        atRest = true
      }
      if (atRest) delayMs = Math.min(delayMs * 2, longestDelayMs)
      else delayMs = now() - lastChangeAt < trafficMs ? shortestDelayMs : uneasyDelayMs
    },
  }
}
