import type { Spread } from './ratio.ts'
import type { RowResult } from './run-row.ts'

const number = (value: number): string =>
  Number.isNaN(value) ? '–' : value.toLocaleString('en', { maximumSignificantDigits: value >= 100 ? 4 : 3 })

/** The median, and between which figures it lies. */
export const range = ({ median, low, high }: Spread): string => `${number(median)} (${number(low)}–${number(high)})`

/** A target in words: the figure that is bounded, and its bound; null for a comparison. */
export const describeTarget = (target: RowResult['targets'][number]): { what: string; bound: string | null } => ({
  what:
    target.against === undefined
      ? `${target.of} ${target.figure}`
      : `${target.of} / ${target.against} ${target.figure}`,
  bound:
    target.atMost !== undefined ? `≤ ${target.atMost}` : target.atLeast !== undefined ? `≥ ${target.atLeast}` : null,
})

/** A row as people read it: each contender's figures, then each target with its mark. */
export const formatRow = (row: RowResult): string => {
  const width = Math.max(...Object.keys(row.contenders).map((name) => name.length))
  const contenders = Object.entries(row.contenders).map(([name, result]) => {
    const text =
      'notAvailable' in result
        ? `not measured: ${result.notAvailable}`
        : Object.entries(result.figures)
            .map(([figure, value]) => `${figure} ${range(value)}`)
            .join('  ')
    return `    ${name.padEnd(width)}  ${text}`
  })
  const targets = row.targets.map((target) => {
    const { what, bound } = describeTarget(target)
    if (bound === null) return `  · ${what}: ${range(target)}, for comparison`
    return `  ${target.met ? '✓' : '✗ MISSED'} ${what}: ${range(target)}, target ${bound}`
  })
  return [`${row.id}  ${row.work}`, `  floor: ${row.floor}`, ...contenders, ...targets].join('\n')
}
