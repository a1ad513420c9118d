import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describeTarget, range } from './report.ts'
import type { RowResult } from './run-row.ts'

/** A row as it was measured, with the commit and the machine that it was measured on: rows may be of several runs. */
interface SavedRow extends RowResult {
  readonly measured: Readonly<Record<string, string>>
}

const folder = new URL('../results/', import.meta.url)

/** The files are written by this module alone, which makes it their parse boundary. */
const read = (name: string): readonly SavedRow[] => {
  const file = new URL(`${name}.json`, folder)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { rows: SavedRow[] }).rows : []
}

const cell = (text: string): string => text.replaceAll('|', '\\|')

const section = (name: string, rows: readonly SavedRow[]): string => {
  const lines = rows.flatMap(({ id, work, targets, contenders, measured }) => [
    ...targets.map((target, index) => {
      const { what, bound } = describeTarget(target)
      const head = index === 0 ? `${id} | ${cell(work)}` : ' | '
      const met = bound === null ? '–' : target.met ? 'yes' : '**no**'
      return `| ${head} | ${cell(what)} | ${bound ?? '–'} | ${range(target)} | ${met} | ${measured.commit} |`
    }),
    ...Object.entries(contenders).flatMap(([contender, result]) =>
      'notAvailable' in result
        ? [`|  |  | ${cell(contender)} | – | ${cell(result.notAvailable)} | – | ${measured.commit} |`]
        : [],
    ),
  ])
  const table = ['| id | work | figure | target | measured | met | commit |', '|---|---|---|---|---|---|---|', ...lines]
  return `## ${name}\n\n${table.join('\n')}\n`
}

const facts = (rows: readonly SavedRow[]): string => {
  const { commit: _, ...latest } = rows.at(-1)?.measured ?? {}
  return Object.entries(latest)
    .map(([fact, value]) => `${fact}: ${value}`)
    .join(' · ')
}

/** Puts a row into `bench/results/<name>.json` in place of its last measurement, and writes the overview anew. */
export const saveRow = (name: string, row: RowResult, measured: Readonly<Record<string, string>>): void => {
  const rows = [...read(name).filter(({ id }) => id !== row.id), { ...row, measured }].sort((a, b) =>
    a.id.localeCompare(b.id, 'en', { numeric: true }),
  )
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify({ rows }, null, 2)}\n`)
  const names = readdirSync(folder).flatMap((file) => (file.endsWith('.json') ? [file.replace('.json', '')] : []))
  const all = names.map((each) => [each, read(each)] as const)
  writeFileSync(
    new URL('README.md', folder),
    [
      '# What was measured',
      '',
      'Written by `pnpm bench --save`: the median over interleaved rounds, with the lowest and the highest (the same twice: one round). Where a figure',
      'is a ratio, it is taken within each round; one without a target is shown for comparison. The targets are those of [the design](../../docs/design/performance.md).',
      '',
      facts(all.flatMap(([, each]) => each)),
      '',
      ...all.map(([each, saved]) => section(each, saved)),
    ].join('\n'),
  )
}
