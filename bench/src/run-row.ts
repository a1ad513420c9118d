import { type Figures, NotAvailable, type OpenContender, type Row } from './benchmark.ts'
import { evaluate, type Spread, spread } from './ratio.ts'
import type { Surroundings } from './surroundings.ts'

export interface RowResult {
  readonly id: string
  readonly work: string
  readonly floor: string
  readonly contenders: Readonly<
    Record<string, { readonly figures: Readonly<Record<string, Spread>> } | { readonly notAvailable: string }>
  >
  readonly targets: readonly (Row['targets'][number] & Spread & { readonly met: boolean })[]
}

/** Runs the contenders of one row in interleaved rounds (A B C A B C …), so that all meet the same moods of the machine. */
export const runRow = async (row: Row, surroundings: Surroundings): Promise<RowResult> => {
  const open = new Map<string, OpenContender>()
  const missing = new Map<string, string>()
  const rounds = new Map<string, Figures[]>()
  try {
    for (const [name, contender] of Object.entries(row.contenders)) {
      try {
        open.set(name, await contender.open(surroundings))
        rounds.set(name, [])
      } catch (error) {
        if (!(error instanceof NotAvailable)) throw error
        missing.set(name, error.message)
      }
    }
    for (let round = 0; round < (row.rounds ?? 7); round += 1) {
      for (const [name, contender] of open) rounds.get(name)?.push(await contender.round())
    }
  } finally {
    for (const contender of open.values()) await contender.close()
  }
  return {
    id: row.id,
    work: row.work,
    floor: row.floor,
    contenders: Object.fromEntries(
      Object.keys(row.contenders).map((name) => [
        name,
        missing.has(name) ? { notAvailable: missing.get(name) ?? '' } : { figures: spreads(rounds.get(name) ?? []) },
      ]),
    ),
    // Of a peer that is not there nothing is met and nothing missed: it is said of the contender.
    targets: row.targets
      .filter(({ of, against }) => !missing.has(of) && (against === undefined || !missing.has(against)))
      .map((target) => ({ ...target, ...evaluate(target, rounds) })),
  }
}

const spreads = (rounds: readonly Figures[]): Readonly<Record<string, Spread>> => {
  const names = new Set(rounds.flatMap((figures) => Object.keys(figures)))
  return Object.fromEntries(
    [...names].map((name) => [
      name,
      spread(rounds.flatMap((figures) => (figures[name] === undefined ? [] : [figures[name]]))),
    ]),
  )
}
