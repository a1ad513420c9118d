import type { RandomSource } from '@x/testkit'

export interface RunOptions {
  readonly random: RandomSource
  /** How long faults are made, milliseconds. */
  readonly lengthMs: number
  readonly tell: (line: string) => void
}

/** What a run came to. */
export interface Verdict {
  /** Broken promises; empty is good. */
  readonly violations: readonly string[]
  /** Counts to show that something was tested: holds, events, faults. */
  readonly counts: Readonly<Record<string, number>>
}

export interface Scenario {
  readonly name: string
  /** What it shows, in a sentence. */
  readonly about: string
  /** Null when it can run here; otherwise what to install. */
  readonly needs: () => string | null
  run(options: RunOptions): Promise<Verdict>
}
