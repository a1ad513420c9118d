/** The arrows of docs/design/house.md, held by `pnpm lint`. */
const published = '(lock-core|lock-table|lock-advisory|cluster-discovery|leader-input)'

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'published-imports-core-only',
      comment:
        'A published package depends on lock-core alone among ours, so that people install only the one they need.',
      severity: 'error',
      from: { path: `^packages/${published}/src` },
      to: { path: `^packages/${published}/src`, pathNot: ['^packages/$1/src', '^packages/lock-core/src'] },
    },
    {
      name: 'core-stands-alone',
      comment: 'lock-core knows nothing of Postgres: adapters for other stores build on it.',
      severity: 'error',
      from: { path: '^packages/lock-core/src' },
      to: { path: ['^packages/(?!lock-core/)', '/node_modules/(pg|pg-listen|kysely)/'] },
    },
    {
      name: 'pg-session-on-core-only',
      severity: 'error',
      from: { path: '^packages/pg-session/src' },
      to: { path: `^packages/(?!(lock-core|pg-session)/)` },
    },
    {
      name: 'no-test-code-in-sources',
      comment: 'Main entries never import test code; the testkit is for tests, examples and benchmarks.',
      severity: 'error',
      from: { path: `^packages/(${published}|pg-session)/src` },
      to: { path: ['^packages/testkit', '^packages/[^/]+/test', '^(bench|examples)/'] },
    },
    {
      name: 'conformance-and-memory-stay-out-of-main',
      comment: 'Code for tests is reached by its own subpath, so that a service does not load it.',
      severity: 'error',
      from: { path: '^packages/lock-core/src/(?!conformance/)' },
      to: { path: '^packages/lock-core/src/conformance/' },
    },
    {
      name: 'no-development-dependency-in-sources',
      severity: 'error',
      from: { path: `^packages/${published}/src` },
      to: {
        dependencyTypes: ['npm-dev'],
        dependencyTypesNot: ['type-only', 'npm-peer'],
        pathNot: '^packages/pg-session',
      },
    },
    {
      name: 'no-undeclared-dependency',
      severity: 'error',
      from: { path: '^(packages|bench|examples)' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: ['/dist/', '^test/fixtures'] },
    tsPreCompilationDeps: 'specify',
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js', '.d.ts'],
    },
  },
}
