import { parseArgs } from 'node:util'
import { campaign } from './campaign.ts'
import { scenarios } from './scenarios/index.ts'

const usage = `pnpm fault [--seed N] [--minutes M] [--scenario name] [--seconds S] [--verbose]
  --seed      first seed; printed when not given, so that a run can be repeated
  --minutes   go on with the next seeds for so long (default: one run of each scenario)
  --scenario  only this one; may be repeated
  --seconds   how long faults are made in one run (default 8)
  --verbose   print each fault as it is made

Scenarios:
${scenarios.map(({ name, about }) => `  ${name.padEnd(22)} ${about}`).join('\n')}`

/** A number of an option, within its range. */
const number = (name: string, text: string | undefined, fallback: number, min: number): number => {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isFinite(value) || value < min)
    throw new Error(`--${name}: expected a number of at least ${min}, got '${text}'`)
  return value
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string' },
    scenario: { type: 'string', multiple: true },
    seconds: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(usage)
  process.exit(0)
}
const chosen = scenarios.filter(({ name }) => values.scenario === undefined || values.scenario.includes(name))
for (const name of values.scenario ?? []) {
  if (!scenarios.some((scenario) => scenario.name === name))
    throw new Error(`--scenario: there is no '${name}'.\n${usage}`)
}
const seed = Math.floor(number('seed', values.seed, Math.floor(Math.random() * 2 ** 31), 0))
console.log(`seed ${seed}`)
const failed = await campaign({
  scenarios: chosen,
  seed,
  lengthMs: number('minutes', values.minutes, 0, 0) * 60_000,
  runMs: number('seconds', values.seconds, 8, 1) * 1_000,
  report: (line) => console.log(line),
  verbose: values.verbose,
})
console.log(failed === 0 ? 'Every promise was kept.' : `${failed} runs broke a promise.`)
process.exit(failed === 0 ? 0 : 1)
