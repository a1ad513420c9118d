// `pnpm check`: everything that can be said of the repository without a database. Stops at nothing, reports all.
import { spawnSync } from 'node:child_process'

const steps: readonly (readonly [name: string, command: string, ...args: string[]])[] = [
  ['format and lint', 'biome', 'check', '.'],
  [
    'dependency rules',
    'depcruise',
    '--config',
    '.dependency-cruiser.mjs',
    '--output-type',
    'err',
    'packages',
    'bench',
    'examples',
    'test',
  ],
  ['types', 'tsc', '-p', 'tsconfig.json'],
  ['declarations', 'tsc', '-p', 'packages/tsconfig.json'],
  ['unused code', 'knip'],
  ['repository', 'node', 'scripts/check-repository.ts'],
  ['build', 'turbo', 'run', 'build', '--output-logs', 'errors-only'],
  ['packages', 'node', 'scripts/check-packages.ts'],
]

const failed = steps.filter(([name, command, ...args]) => {
  const start = performance.now()
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', FORCE_COLOR: process.stdout.isTTY ? '1' : '0' },
  })
  const passed = status === 0
  console.log(`${passed ? '✓' : '✗'} ${name} (${((performance.now() - start) / 1_000).toFixed(1)} s)`)
  if (!passed) console.log(`${stdout ?? ''}${stderr ?? ''}${error ? `${error.message}\n` : ''}`)
  return !passed
})

if (failed.length > 0) {
  console.log(`\nFailed: ${failed.map(([name]) => name).join(', ')}. \`pnpm format\` mends formatting.`)
  process.exitCode = 1
}
