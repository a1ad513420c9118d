import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const root = new URL('../../', import.meta.url).pathname

// A house of the same shape, small enough to break: the rules match paths, so they do not care which house it is.
let house = ''
beforeEach(() => {
  house = mkdtempSync(join(tmpdir(), 'coordination-house-'))
  copyFileSync(join(root, '.dependency-cruiser.mjs'), join(house, '.dependency-cruiser.mjs'))
  write('tsconfig.json', '{}')
  write('package.json', '{ "name": "house", "type": "module" }')
  for (const name of ['lock-core', 'lock-table', 'lock-advisory', 'pg-session', 'testkit']) {
    write(`packages/${name}/src/index.ts`, 'export const name: string = import.meta.url\n')
  }
})
afterEach(() => rmSync(house, { recursive: true }))

const write = (file: string, text: string): void => {
  mkdirSync(dirname(join(house, file)), { recursive: true })
  writeFileSync(join(house, file), text)
}

const cruise = (): { status: number | null; stdout: string } =>
  spawnSync('depcruise', ['--config', '.dependency-cruiser.mjs', '--output-type', 'err', 'packages'], {
    cwd: house,
    encoding: 'utf8',
  })

test('a house in order passes', () => {
  write('packages/lock-table/src/face.ts', `export * from '../../lock-core/src/index.ts'\n`)
  expect(cruise().stdout).toContain('no dependency violations')
})

test.each([
  ['published-imports-core-only', 'packages/lock-table/src/face.ts', '../../lock-advisory/src/index.ts'],
  ['core-stands-alone', 'packages/lock-core/src/face.ts', '../../pg-session/src/index.ts'],
  ['no-test-code-in-sources', 'packages/lock-table/src/face.ts', '../../testkit/src/index.ts'],
  ['pg-session-on-core-only', 'packages/pg-session/src/face.ts', '../../lock-table/src/index.ts'],
  ['resolvable', 'packages/lock-table/src/face.ts', './nowhere.ts'],
])('%s is held', (rule, file, specifier) => {
  write(file, `export * from '${specifier}'\n`)
  const { status, stdout } = cruise()
  expect(stdout).toContain(rule)
  expect(status).not.toBe(0)
})
