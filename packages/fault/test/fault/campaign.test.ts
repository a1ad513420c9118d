import { describe, expect, it } from 'vitest'
import { runOnce } from '../../src/campaign.ts'
import { scenarios } from '../../src/scenarios/index.ts'
import { lockScenario } from '../../src/scenarios/locks.ts'

/** Fixed, so that a red run here is the same run at home; `pnpm fault` draws new ones. */
const seed = 1
const runMs = process.env.COORDINATION_LONG === '1' ? 60_000 : 5_000

describe.each(scenarios)('$name: $about', (scenario) => {
  it(`keeps its promises under the faults of seed ${seed}`, async ({ skip }) => {
    const missing = scenario.needs()
    if (missing !== null) skip(missing)
    const { violations, counts } = await runOnce(scenario, seed, runMs, () => {})
    expect(violations).toEqual([])
    // A run in which nothing happened shows nothing.
    expect(counts.faults).toBeGreaterThan(0)
    expect(counts.holds ?? counts.events ?? counts.effects).toBeGreaterThan(10)
  })
})

it('finds a locker that does not exclude', async () => {
  const broken = lockScenario({ name: 'unshared', about: 'each process on its own', adapter: 'unshared' })
  const { violations } = await runOnce(broken, seed, 2_000, () => {})
  expect(violations.some((violation) => /was granted while .* believed to hold it/.test(violation))).toBe(true)
})
