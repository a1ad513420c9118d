import type { Hold } from '@x/lock-core/conformance'

/** A hold as several looks at `isHeld()` showed it; times are microseconds of `monotonicMicros()`. */
export interface ObservedHold extends Hold {
  /** The process that held it. */
  readonly process: string
  readonly until: number
}

/** What a process tells of its locks. `at` was read *before* `isHeld()` was asked and answered true. */
export type LockObservation =
  | {
      readonly type: 'granted'
      readonly hold: number
      readonly key: string
      readonly mode: 'exclusive' | 'shared'
      readonly token: string | null
      readonly at: number
    }
  | { readonly type: 'held'; readonly hold: number; readonly at: number }

/**
 * Puts observations together to holds. An interval ends with the last look that said yes, and with the time before
 * that look: a process that was stopped between the two is not blamed for what it could not know.
 */
export class LockHistory {
  readonly #holds = new Map<string, { -readonly [P in keyof ObservedHold]: ObservedHold[P] }>()

  record(process: string, observation: LockObservation): void {
    const id = `${process}/${observation.hold}`
    if (observation.type === 'granted') {
      this.#holds.set(id, {
        process,
        holder: id,
        key: observation.key,
        mode: observation.mode,
        token: observation.token === null ? null : BigInt(observation.token),
        from: observation.at,
        // Never empty: it was held at least when it was looked at.
        until: observation.at + 1,
      })
      return
    }
    const hold = this.#holds.get(id)
    if (hold !== undefined) hold.until = Math.max(hold.until, observation.at)
  }

  get holds(): readonly ObservedHold[] {
    return [...this.#holds.values()]
  }
}

/** Two holds of one key that were believed at the same time, one of them exclusive. */
export interface Overlap {
  readonly earlier: ObservedHold
  readonly later: ObservedHold
  /** How long both were believed, microseconds. */
  readonly micros: number
}

/** Every pair of holds that breaks exclusion, with how long it did. */
export const overlaps = (holds: readonly ObservedHold[]): readonly Overlap[] => {
  const found: Overlap[] = []
  for (const ofKey of Map.groupBy(holds, (hold) => hold.key).values()) {
    const inOrder = ofKey.toSorted((one, other) => one.from - other.from)
    let open: ObservedHold[] = []
    for (const later of inOrder) {
      open = open.filter((hold) => hold.until > later.from)
      for (const earlier of open) {
        if (earlier.mode === 'shared' && later.mode === 'shared') continue
        found.push({ earlier, later, micros: Math.min(earlier.until, later.until) - later.from })
      }
      open.push(later)
    }
  }
  return found
}

/** A write that `checkFence` let through, in the order in which the database took them. */
export interface GuardedWrite {
  readonly key: string
  readonly token: bigint
}

/** Writes that came after one with a higher token: the fence did not hold. */
export const staleWrites = (writes: readonly GuardedWrite[]): readonly string[] => {
  const highest = new Map<string, bigint>()
  return writes.flatMap(({ key, token }) => {
    const before = highest.get(key) ?? token
    if (token > before) highest.set(key, token)
    else highest.set(key, before)
    return token < before ? [`${key}: a write with token ${token} was accepted after one with ${before}`] : []
  })
}
