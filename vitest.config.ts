import { defineConfig } from 'vitest/config'

/** One project a kind of test; `docs/design/reliability.md` says what each kind shows. */
const kinds = {
  unit: { postgres: false, testTimeout: 10_000 },
  behaviour: { postgres: true, testTimeout: 30_000 },
  conformance: { postgres: true, testTimeout: 60_000 },
  integration: { postgres: true, testTimeout: 60_000 },
  fault: { postgres: true, testTimeout: 180_000 },
  package: { postgres: true, testTimeout: 180_000 },
}

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: Object.entries(kinds).map(([name, { postgres, testTimeout }]) => ({
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`, `{bench,packages/*,examples/*}/test/${name}/**/*.test.ts`],
        testTimeout,
        hookTimeout: 60_000,
        ...(postgres ? { globalSetup: ['./packages/testkit/src/vitest/global-setup.ts'] } : {}),
      },
    })),
  },
})
