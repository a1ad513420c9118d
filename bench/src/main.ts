import { readdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Benchmark } from './benchmark.ts'
import { formatRow } from './report.ts'
import { runRow } from './run-row.ts'
import { saveRow } from './saved-results.ts'
import { createSurroundings } from './surroundings.ts'

const available = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.replace('.bench.ts', ''))

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    row: { type: 'string', multiple: true, short: 'r' },
    rounds: { type: 'string' },
    save: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const usage = `pnpm bench [name …] [--row ID] [--rounds N] [--save]

  name      ${available.join(', ')} (default: all)
  --row     only this row, for example A1; may be repeated
  --rounds  interleaved rounds of each row (default: 7)
  --save    keep each row in bench/results/`

const unknown = positionals.filter((name) => !available.includes(name))
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`There is no benchmark named ${unknown.join(', ')}.\n`)
  console.log(usage)
  process.exit(unknown.length > 0 ? 2 : 0)
}

for (const name of positionals.length > 0 ? positionals : available) {
  const { benchmark }: { benchmark: Benchmark } = await import(`./${name}.bench.ts`)
  await using surroundings = await createSurroundings(benchmark.settings)
  const facts = Object.entries(surroundings.facts).map(([fact, value]) => `${fact}: ${value}`)
  console.log(`\n${benchmark.title}\n${facts.join(' · ')}\n`)
  for (const row of await benchmark.rows(surroundings)) {
    if (values.row !== undefined && !values.row.includes(row.id)) continue
    const result = await runRow(
      values.rounds === undefined ? row : { ...row, rounds: Number(values.rounds) },
      surroundings,
    )
    console.log(`${formatRow(result)}\n`)
    if (values.save) saveRow(name, result, surroundings.facts)
  }
}
