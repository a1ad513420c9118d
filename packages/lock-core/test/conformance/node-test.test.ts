import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

it('the suite runs under node:test, and reports what it skips as skipped', async () => {
  const file = fileURLToPath(new URL('fixtures/memory-under-node-test.ts', import.meta.url))
  // Without the variable by which a runner recognises that it runs inside another one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { stdout } = await promisify(execFile)(process.execPath, ['--test', '--test-reporter=tap', file], { env })
  const count = (what: string): number => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)?.[1])
  expect(count('fail')).toBe(0)
  expect(count('pass')).toBeGreaterThan(40)
  expect(count('skipped')).toBeGreaterThan(5)
  expect(stdout).toContain('# SKIP hooks.endSession is not given')
})
