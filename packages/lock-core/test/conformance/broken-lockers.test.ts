import { describe, expect, it } from 'vitest'
import { lockerConformance } from '../../src/conformance/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'
import { type Mutant, mutants } from '../broken-lockers.ts'
import { Sessions } from '../sessions.ts'

/** The cases of the suite, by name, instead of a run of them. */
function casesOf(mutant: Pick<Mutant, 'break' | 'breakHooks'>): Map<string, () => Promise<void>> {
  const sessions = new Sessions()
  const cases = new Map<string, () => Promise<void>>()
  lockerConformance({
    name: 'a locker',
    runner: {
      describe: (_, declare) => declare(),
      it: (name, run) => void cases.set(name, run),
      skip: () => {},
    },
    capabilities: createMemoryLocker().capabilities,
    createLocker: async () => sessions.create(mutant.break),
    ttlMs: 100,
    detectMs: 300,
    seed: 7,
    renewsGivenTtl: true,
    schedules: 20,
    hooks: { ...sessions.hooks, ...mutant.breakHooks?.(sessions.hooks) },
  })
  return cases
}

/** The memory locker does not renew a ttl that it was given, and must not claim to. */
const soundCases = new Set(mutants.map(({ foundBy }) => foundBy))
soundCases.delete('a renewed lock outlives its ttl, for others too')

describe('the conformance suite', () => {
  it.concurrent.each(mutants)('finds a locker that $fault', async (mutant) => {
    const failureOf = async (): Promise<unknown> => {
      const run = casesOf(mutant).get(mutant.foundBy)
      expect(run, `there is no case "${mutant.foundBy}"`).toBeDefined()
      return run?.().then(
        () => null,
        (error: unknown) => error,
      )
    }
    let failure = await failureOf()
    for (let more = mutant.showsAtMoments === true ? 20 : 0; failure === null && more > 0; more -= 1) {
      failure = await failureOf()
    }
    expect(failure).toBeInstanceOf(Error)
    if (mutant.says !== undefined) expect(String(failure)).toMatch(mutant.says)
  })

  it.concurrent.each([...soundCases])('finds no fault in a sound one: %s', async (name) => {
    const run = casesOf({}).get(name)
    await run?.()
  })
})
