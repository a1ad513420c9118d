import { randomSource } from '@x/testkit'
import type { Scenario, Verdict } from './scenario.ts'

export interface CampaignOptions {
  readonly scenarios: readonly Scenario[]
  /** The first seed; the runs that follow take the numbers after it. */
  readonly seed: number
  /** How long to go on, milliseconds; 0 is one run of each scenario. */
  readonly lengthMs: number
  /** How long faults are made in each run, milliseconds. */
  readonly runMs: number
  readonly report: (line: string) => void
  /** Every fault as it is made. */
  readonly verbose: boolean
}

/** Runs one scenario with one seed. A run that cannot even be set up is a violation too. */
export const runOnce = async (
  scenario: Scenario,
  seed: number,
  runMs: number,
  tell: (line: string) => void,
): Promise<Verdict> => {
  try {
    return await scenario.run({ random: randomSource(seed), lengthMs: runMs, tell })
  } catch (error) {
    return {
      violations: [`the run itself failed: ${error instanceof Error ? error.stack : String(error)}`],
      counts: {},
    }
  }
}

/** Runs the scenarios in turn, seed after seed, and resolves to how many runs broke a promise. */
export const campaign = async (options: CampaignOptions): Promise<number> => {
  const { scenarios, lengthMs, runMs, report, verbose } = options
  const startedAt = performance.now()
  let failed = 0
  for (let { seed } = options; ; seed += 1) {
    for (const scenario of scenarios) {
      const missing = scenario.needs()
      if (missing !== null) {
        report(`SKIPPED ${scenario.name}: ${missing}`)
        continue
      }
      const runStarted = performance.now()
      const { violations, counts } = await runOnce(scenario, seed, runMs, verbose ? report : () => {})
      const seconds = ((performance.now() - runStarted) / 1_000).toFixed(1)
      const summary = Object.entries(counts)
        .map(([what, count]) => `${count} ${what}`)
        .join(', ')
      report(
        `${violations.length === 0 ? 'ok    ' : 'BROKEN'} ${scenario.name} seed ${seed} (${seconds} s): ${summary}`,
      )
      for (const violation of violations) report(`       ${violation}`)
      if (violations.length > 0) {
        failed += 1
        report(
          `       replay: pnpm fault --scenario ${scenario.name} --seed ${seed} --seconds ${runMs / 1_000} --verbose`,
        )
      }
    }
    if (performance.now() - startedAt >= lengthMs) return failed
  }
}
