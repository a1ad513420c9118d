import type { Look, Suspect } from './record.ts'

/** What a sweeper makes of its looks. */
export interface Verdict {
  /** Silent for their ttl on two looks running. */
  readonly stale: readonly Suspect[]
  /** Without their marker on two looks far enough apart, and no beat in between. */
  readonly crashed: readonly Suspect[]
  /** When to look again out of cadence, milliseconds from this look; null: in cadence. */
  readonly lookAgainMs: number | null
  /** Set while so many would go at once that the sweeper waits. */
  readonly held: { readonly doubtful: number; readonly members: number; readonly remainingMs: number } | null
}

export interface SuspicionOptions {
  /** Contact that the sweeper must have had, and how long a mass death is held. */
  readonly ttlMs: number
}

/**
 * Between the two looks at a node that looks crashed, milliseconds: time for one that lost its connections and lives to open
 * one (some six round trips, and a server process that starts) and to beat. A machine or network that is slow for the
 * sweeper is slow for the others; past half a ttl the ttl itself is not far.
 */
export function confirmMs(roundTripMs: number, ttlMs: number): number {
  return Math.min(Math.max(300, 20 * roundTripMs), Math.max(1_000, ttlMs / 2))
}

/** More than this share of the members, and at least this many, look like a database in trouble, not like deaths. */
const massShare = 0.3
const massCount = 3

const nobody: Verdict = { stale: [], crashed: [], lookAgainMs: null, held: null }

/**
 * Judges what a sweeper sees. One look never suffices: an answer may be old by the time it is read (Wolverine ejected
 * live nodes after one stale read). Knows no clock; instants are the caller's, on one monotonic line.
 */
export class Suspicion {
  readonly #ttlMs: number
  #suspects = new Map<string, { readonly suspect: Suspect; readonly goneSince: number | null }>()
  #mass: { readonly since: number } | null = null

  constructor(options: SuspicionOptions) {
    this.#ttlMs = options.ttlMs
  }

  /** Takes over what another node has seen at the instant `goneSince`. */
  remember(suspect: Suspect, goneSince: number): void {
    this.#suspects.set(keyOf(suspect), { suspect, goneSince })
  }

  /**
   * @param contactMs how long the sweeper has been in touch with the database without a break: after an outage everybody
   * looks silent, and everybody gets one ttl to beat again
   * @param waitMs between two looks at a marker that is gone; see {@link confirmMs}
   */
  judge(look: Look, now: number, contactMs: number, waitMs: number): Verdict {
    const before = this.#suspects
    this.#suspects = new Map()
    if (Math.min(contactMs, look.uptimeMs) < this.#ttlMs) return nobody
    const stale: Suspect[] = []
    const crashed: Suspect[] = []
    let waiting = false
    for (const suspect of look.suspects) {
      const key = keyOf(suspect)
      const earlier = before.get(key)
      const same = earlier !== undefined && earlier.suspect.lastBeat === suspect.lastBeat ? earlier : undefined
      const goneSince = suspect.gone ? (same?.goneSince ?? now) : null
      this.#suspects.set(key, { suspect, goneSince })
      if (suspect.stale && same?.suspect.stale) stale.push(suspect)
      else if (goneSince !== null && now - goneSince >= waitMs) crashed.push(suspect)
      else if (goneSince !== null) waiting = true
    }
    const held = this.#hold(look, now, stale.length + crashed.length > 0)
    const lookAgainMs = waiting && held === null ? waitMs : null
    return held === null ? { stale, crashed, lookAgainMs, held } : { stale: [], crashed: [], lookAgainMs, held }
  }

  /**
   * Counted are all who are doubtful, not only those due now: the deaths of a partition come due one by one as their last
   * beats age, and would slip through below the share.
   */
  #hold(look: Look, now: number, due: boolean): Verdict['held'] {
    const mass = look.doubtful >= massCount && look.doubtful > look.members * massShare
    if (!mass) {
      this.#mass = null
      return null
    }
    if (this.#mass === null && !due) return null
    this.#mass ??= { since: now }
    const remainingMs = this.#mass.since + this.#ttlMs - now
    return remainingMs > 0 ? { doubtful: look.doubtful, members: look.members, remainingMs } : null
  }
}

function keyOf(suspect: Suspect): string {
  return `${suspect.incarnation}/${suspect.id}`
}
