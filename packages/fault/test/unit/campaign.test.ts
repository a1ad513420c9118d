import { expect, it } from 'vitest'
import { campaign } from '../../src/campaign.ts'
import type { Scenario, Verdict } from '../../src/scenario.ts'

const scenario = (name: string, verdict: (seed: number) => Verdict, missing: string | null = null): Scenario => ({
  name,
  about: name,
  needs: () => missing,
  run: async ({ random }) => verdict(random.seed),
})
const run = async (scenarios: Scenario[], lengthMs = 0): Promise<{ failed: number; lines: string[] }> => {
  const lines: string[] = []
  const options = {
    scenarios,
    seed: 7,
    lengthMs,
    runMs: 8_000,
    report: (line: string) => void lines.push(line),
    verbose: false,
  }
  return { failed: await campaign(options), lines }
}

it('names the seed of a run that broke a promise, and how to replay it', async () => {
  const { failed, lines } = await run([
    scenario('good', () => ({ violations: [], counts: { holds: 3 } })),
    scenario('bad', (seed) => ({ violations: [`two holders with seed ${seed}`], counts: {} })),
  ])
  expect(failed).toBe(1)
  expect(lines[0]).toMatch(/^ok +good seed 7 .*3 holds/)
  expect(lines.slice(1).join('\n')).toMatch(
    /BROKEN bad seed 7[\s\S]*two holders with seed 7[\s\S]*--scenario bad --seed 7 --seconds 8/u,
  )
})

it('counts a run that cannot be set up as broken, and says what a scenario needs', async () => {
  const { failed, lines } = await run([
    scenario('throws', () => {
      throw new Error('no server')
    }),
    scenario('pooled', () => ({ violations: [], counts: {} }), 'apt-get install pgbouncer'),
  ])
  expect(failed).toBe(1)
  expect(lines.join('\n')).toContain('no server')
  expect(lines.at(-1)).toBe('SKIPPED pooled: apt-get install pgbouncer')
})

it('goes on with the next seeds until its time is over', async () => {
  const seeds: number[] = []
  const slow = scenario('slow', (seed) => {
    seeds.push(seed)
    const until = performance.now() + 20
    while (performance.now() < until);
    return { violations: [], counts: {} }
  })
  await run([slow], 200)
  expect(seeds.length).toBeGreaterThan(1)
  expect(seeds).toEqual(seeds.map((_, run) => 7 + run))
})
