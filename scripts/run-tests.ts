// `npm test`: every kind of test on the newest PostgreSQL, what the server's behaviour decides on the oldest one too,
// and the checks that need no database. The last line is "N passed, N failed", with ", N skipped" when there are any.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { inspect, parseArgs } from 'node:util'
import type { TestCase, TestModule } from 'vitest/node'
import { startVitest } from 'vitest/node'

const usage = `npm test [-- [options] [file filters]]
  --project <kind>   unit, behaviour, conformance, integration, fault or package; may be repeated
  --newest-only      leave out the run on the oldest PostgreSQL
  --no-check         leave out format, lint, types, dependency and package checks
PG_VERSION=15|16|17|18 runs everything on that version alone; DATABASE_URL runs it on that server alone.`

interface Tally {
  passed: number
  readonly failed: string[]
  /** By the reason, which many cases share. */
  readonly skipped: Map<string, string[]>
}

const tally: Tally = { passed: 0, failed: [], skipped: new Map() }

const heading = (text: string): void => console.log(`\n── ${text} ${'─'.repeat(Math.max(0, 76 - text.length))}`)

const describeTest = (test: TestCase): string => `${test.module.relativeModuleId} > ${test.fullName}`

/** A message may be the whole output of a process, which says at its end why it failed. */
const endsOf = (text: string | undefined): string => {
  const lines = (text ?? '').split('\n').filter((line) => line.trim() !== '')
  const shown = lines.length <= 30 ? lines : [...lines.slice(0, 3), '…', ...lines.slice(-26)]
  return shown.map((line) => `       ${line.slice(0, 300)}`).join('\n')
}

/** What the test says of itself, what its name ends with in parentheses, as in the conformance suite, or its flag. */
const reasonOf = (test: TestCase): string => {
  const result = test.result()
  if (result.state !== 'skipped') return 'it did not run'
  const flag = /COORDINATION_\w+=1/.exec(test.fullName)?.[0]
  if (flag !== undefined) return `${flag} runs it`
  return result.note ?? /\(([^()]+)\)$/.exec(test.name)?.[1] ?? 'no reason given'
}

const countTest = (test: TestCase, where: string): void => {
  const result = test.result()
  if (result.state === 'passed') tally.passed += 1
  else if (result.state === 'failed') {
    tally.failed.push(`${where} ${describeTest(test)}\n${endsOf(result.errors[0]?.message)}`)
  } else {
    const reason = reasonOf(test)
    const others = tally.skipped.get(reason) ?? []
    tally.skipped.set(reason, [...others, `${where} ${describeTest(test)}`])
  }
}

const countModule = (module: TestModule, where: string): void => {
  const tests = [...module.children.allTests()]
  for (const test of tests) countTest(test, where)
  // A file that does not load, or whose hooks fail, has errors and perhaps no test at all.
  if (module.errors().length > 0)
    tally.failed.push(`${where} ${module.relativeModuleId}\n${endsOf(module.errors()[0]?.message)}`)
}

const runProjects = async (title: string, projects: readonly string[], filters: readonly string[]): Promise<void> => {
  heading(title)
  const vitest = await startVitest([...filters], {
    run: true,
    watch: false,
    project: [...projects],
    passWithNoTests: true,
    reporters: [['default', { summary: process.stdout.isTTY === true }]],
  })
  for (const module of vitest.state.getTestModules()) countModule(module, `[${title}]`)
  for (const error of vitest.state.getUnhandledErrors()) {
    // Those of a worker come as objects without a prototype.
    const text = typeof error === 'object' && error !== null && 'message' in error ? error.message : inspect(error)
    tally.failed.push(`[${title}] unhandled: ${text}`)
  }
  await vitest.close()
}

/** Each line of the check that starts with a mark counts as one test. */
const runChecks = async (): Promise<void> => {
  heading('checks')
  const child = spawn(process.execPath, ['scripts/check.ts'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let steps = 0
  createInterface({ input: child.stdout }).on('line', (line) => {
    console.log(line)
    if (line.startsWith('✓ ')) tally.passed += 1
    else if (line.startsWith('✗ ')) tally.failed.push(`[checks] ${line.slice(2)}`)
    else return
    steps += 1
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (steps === 0 || (code !== 0 && tally.failed.every((line) => !line.startsWith('[checks]')))) {
    tally.failed.push(`[checks] scripts/check.ts ended with ${code}`)
  }
}

const report = (startedAt: number): void => {
  const seconds = Math.round((performance.now() - startedAt) / 1_000)
  heading(`done in ${Math.floor(seconds / 60)} min ${seconds % 60} s`)
  for (const [reason, tests] of tally.skipped) {
    console.log(`SKIPPED ${tests.length} × ${reason}${tests.length > 1 ? '; the first' : ''}: ${tests[0]}`)
  }
  for (const line of tally.failed) console.log(`FAILED ${line}`)
  const skips = [...tally.skipped.values()].flat().length
  const skipped = skips > 0 ? `, ${skips} skipped` : ''
  console.log(`${tally.passed} passed, ${tally.failed.length} failed${skipped}`)
}

/** Whoever started us is gone, even by SIGKILL: nobody reads on, and the servers must not stay. */
const endWithParent = (): void => {
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) process.exit(1)
  }, 500).unref()
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    project: { type: 'string', multiple: true },
    'newest-only': { type: 'boolean', default: false },
    check: { type: 'boolean', default: true },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(usage)
  process.exit(0)
}
endWithParent()

const startedAt = performance.now()
const kinds = values.project ?? ['unit', 'behaviour', 'conformance', 'integration', 'fault', 'package']
const onOldest = kinds.filter((kind) => kind === 'behaviour' || kind === 'conformance')
const given = process.env.PG_VERSION ? `PostgreSQL ${process.env.PG_VERSION}` : 'PostgreSQL 18'
await runProjects(process.env.DATABASE_URL ? 'the server of DATABASE_URL' : given, kinds, positionals)
if (process.env.DATABASE_URL || process.env.PG_VERSION) {
  console.log(
    `Only ${process.env.DATABASE_URL ? 'DATABASE_URL' : 'PG_VERSION'} was asked for: no run on the oldest version.`,
  )
} else if (!values['newest-only'] && onOldest.length > 0) {
  process.env.PG_VERSION = '15'
  await runProjects('PostgreSQL 15', onOldest, positionals)
}
if (values.check && positionals.length === 0 && values.project === undefined) await runChecks()

report(startedAt)
process.exit(tally.failed.length === 0 ? 0 : 1)
