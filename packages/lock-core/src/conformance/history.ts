import type { Lock, LockMode } from '../locker.ts'

/** A stretch in which somebody believed to hold a key. Positions order what was observed; null: it never ended. */
export interface Hold {
  readonly key: string
  readonly mode: LockMode
  readonly holder: string
  readonly token: bigint | null
  readonly from: number
  readonly until: number | null
}

/** Records who believed what in which order. One process sees all of it, so that its order is the order. */
export class History {
  readonly #holds: { -readonly [P in keyof Hold]: Hold[P] }[] = []
  readonly #open = new Map<Lock, () => void>()
  #position = 0

  /** Call it when the lock was granted, and before anything is awaited. The result ends the hold; call it before releasing. */
  enter(lock: Lock, holder: string): () => void {
    // A hold ends when its holder stops believing, whether or not he has looked: ask those who are still in.
    for (const [other, leave] of this.#open) {
      if (other.key === lock.key && !other.isHeld()) leave()
    }
    const hold = {
      key: lock.key,
      mode: lock.mode,
      holder,
      token: lock.fencingToken,
      from: this.#position++,
      until: null as number | null,
    }
    this.#holds.push(hold)
    const leave = (): void => {
      this.#open.delete(lock)
      hold.until ??= this.#position++
    }
    this.#open.set(lock, leave)
    return leave
  }

  get holds(): readonly Hold[] {
    return this.#holds
  }
}

/**
 * Finds the holds that break exclusion: two of one key at the same time, one of them exclusive. A hold that never ended
 * reaches to the end of time, so that a holder which hangs or crashes is seen as well.
 */
export function exclusionViolations(holds: readonly Hold[]): readonly string[] {
  const violations: string[] = []
  for (const [key, ofKey] of byKey(holds)) {
    let open: Hold[] = []
    for (const hold of ofKey) {
      open = open.filter((other) => other.until === null || other.until > hold.from)
      for (const other of open) {
        if (hold.mode === 'exclusive' || other.mode === 'exclusive') {
          violations.push(`${key}: ${describe(hold)} began while ${describe(other)} was not over`)
        }
      }
      open.push(hold)
    }
  }
  return violations
}

/**
 * Finds tokens that do not increase strictly in the order of grants. Shared holders that are granted together hear of it at
 * different times, the first may be gone before the second knows, and in which order they were granted nobody can observe;
 * only the order of shared against exclusive holders is checked.
 */
export function fencingViolations(holds: readonly Hold[]): readonly string[] {
  const violations: string[] = []
  for (const [key, ofKey] of byKey(holds)) {
    const seen = new Map<bigint, Hold>()
    for (const hold of ofKey) {
      if (hold.token === null) {
        violations.push(`${key}: ${describe(hold)} has no token`)
        continue
      }
      const twin = seen.get(hold.token)
      if (twin !== undefined) violations.push(`${key}: ${describe(hold)} has the token of ${describe(twin)}`)
      seen.set(hold.token, hold)
      for (const earlier of ofKey) {
        if (earlier.until === null || earlier.until > hold.from || earlier.token === null) continue
        if (earlier.mode === 'shared' && hold.mode === 'shared') continue
        if (earlier.token >= hold.token) {
          violations.push(`${key}: ${describe(hold)} came after ${describe(earlier)} and has no higher token`)
        }
      }
    }
  }
  return violations
}

function byKey(holds: readonly Hold[]): Map<string, Hold[]> {
  return Map.groupBy(
    holds.toSorted((one, other) => one.from - other.from),
    (hold) => hold.key,
  )
}

function describe(hold: Hold): string {
  return `${hold.mode} hold of ${hold.holder} [${hold.from}, ${hold.until ?? 'never ended'}] with token ${hold.token}`
}
