import type { Figures, Target } from './benchmark.ts'

/** The middle of several rounds, and how far they lie apart. */
export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
}
export const spread = (values: readonly number[]): Spread => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (quantile: number): number => sorted[Math.round((sorted.length - 1) * quantile)] ?? Number.NaN
  return { median: at(0.5), low: at(0), high: at(1) }
}

/**
 * A target over the rounds. A ratio is taken within each round, whose contenders ran one after the other, and only then
 * the median over the rounds: what slows the machine for a while slows both sides of a ratio.
 */
export const evaluate = (
  target: Target,
  rounds: ReadonlyMap<string, readonly Figures[]>,
): Spread & { met: boolean } => {
  const ours = rounds.get(target.of) ?? []
  const theirs = target.against === undefined ? undefined : (rounds.get(target.against) ?? [])
  const values = ours.flatMap((figures, round) => {
    const value = figures[target.figure]
    const base = theirs === undefined ? 1 : theirs[round]?.[target.figure]
    return value === undefined || base === undefined ? [] : [value / base]
  })
  const result = spread(values)
  const met =
    values.length > 0 &&
    (target.atMost === undefined || result.median <= target.atMost) &&
    (target.atLeast === undefined || result.median >= target.atLeast)
  return { ...result, met }
}
