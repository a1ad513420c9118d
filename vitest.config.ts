import { defineConfig } from 'vitest/config'

/**
 * One project a kind of test; `docs/design/reliability.md` says what each kind shows. The fault tests come last and one
 * after the other: each starts processes enough to keep two cores busy, and what they are about is who is late.
 *
 * The time that a test may take ends one that hangs. It is no promise of ours, so it is far from what any test takes on a
 * machine that is several times slower, or busy with something else for a while.
 */
const kinds = {
  unit: { postgres: false, testTimeout: 60_000, maxWorkers: 2, groupOrder: 0 },
  behaviour: { postgres: true, testTimeout: 120_000, maxWorkers: 2, groupOrder: 0 },
  conformance: { postgres: true, testTimeout: 180_000, maxWorkers: 2, groupOrder: 0 },
  integration: { postgres: true, testTimeout: 180_000, maxWorkers: 2, groupOrder: 0 },
  package: { postgres: true, testTimeout: 600_000, maxWorkers: 2, groupOrder: 0 },
  fault: { postgres: true, testTimeout: 600_000, maxWorkers: 1, groupOrder: 1 },
}

export default defineConfig({
  test: {
    projects: Object.entries(kinds).map(([name, { postgres, testTimeout, maxWorkers, groupOrder }]) => ({
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`, `{bench,packages/*,examples/*}/test/${name}/**/*.test.ts`],
        testTimeout,
        maxWorkers,
        sequence: { groupOrder },
        hookTimeout: 180_000,
        // A condition that is waited for comes late on a busy machine; the second that is the default is too short for it.
        expect: { poll: { timeout: 30_000 } },
        ...(postgres ? { globalSetup: ['./packages/testkit/src/vitest/global-setup.ts'] } : {}),
      },
    })),
  },
})
