import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { faultsOf } from '../../scripts/check-packages.ts'
import { type PackedPackage, packAll } from '../../scripts/packed.ts'
import { createFreshProject, snippetsOf } from './fresh-project.ts'

const root = new URL('../../', import.meta.url).pathname
const names = ['@x/lock-core', '@x/lock-advisory', '@x/lock-table', '@x/cluster-discovery', '@x/leader-input']
const probe = new URL('import-probe.mjs', import.meta.url).pathname
const database = useDatabase()

let directory = ''
let packages: readonly PackedPackage[] = []
const packed = (name: string): PackedPackage => {
  const found = packages.find((each) => each.name === name)
  if (found === undefined) throw new Error(`${name} was not packed`)
  return found
}
const specifiers = ({ contents, name }: PackedPackage): string[] => {
  const { exports }: { exports: Record<string, unknown> } = JSON.parse(
    readFileSync(join(contents, 'package.json'), 'utf8'),
  )
  return Object.keys(exports)
    .filter((path) => path !== './package.json')
    .map((path) => join(name, path))
}

beforeAll(() => {
  execFileSync('turbo', ['run', 'build', '--output-logs', 'errors-only'], { cwd: root, stdio: 'pipe' })
  ;({ directory, packages } = packAll())
}, 600_000)
afterAll(() => {
  if (directory !== '') rmSync(directory, { recursive: true, force: true })
})

describe.each(names)('%s', (name) => {
  let project = ''
  beforeAll(() => {
    project = createFreshProject(name, packages, directory)
  }, 600_000)

  test('its tarball has no fault that publint, attw or our own rules know', () => {
    expect(faultsOf(packed(name))).toEqual([])
  })

  test('importing it prints nothing, starts nothing, reads no setting', () => {
    writeFileSync(join(project, 'probe.mjs'), readFileSync(probe))
    const { stdout, stderr } = spawnSync('node', ['probe.mjs', ...specifiers(packed(name))], {
      cwd: project,
      encoding: 'utf8',
    })
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual({ seen: [], handles: [], added: [] })
  })

  test('require() gives what import gives', () => {
    const script = specifiers(packed(name))
      .map((specifier) => `require(${JSON.stringify(specifier)})`)
      .join(',')
    writeFileSync(
      join(project, 'required.cjs'),
      `const all = [${script}]; if (all.some((m) => Object.keys(m).length === 0)) throw new Error('empty')`,
    )
    const { status, stderr } = spawnSync('node', ['--no-warnings', 'required.cjs'], { cwd: project, encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(status).toBe(0)
  })

  test('it carries the SQL of its migrations, for those who run them with psql', () => {
    const { contents } = packed(name)
    const directory = join(contents, 'dist/migrations')
    const inTarball = existsSync(directory) ? readdirSync(directory).sort() : []
    const migrates = specifiers(packed(name)).includes(`${name}/migrations`)
    expect(inTarball).toEqual(migrates ? readdirSync(join(root, 'migrations')).sort() : [])
  })

  test('the snippets of its README compile and run', () => {
    const snippets = snippetsOf(readFileSync(join(packed(name).directory, 'README.md'), 'utf8'))
    expect(snippets.length).toBeGreaterThan(0)
    runSnippets(project, snippets)
  })
})

test('the snippets of the repository README compile and run', () => {
  const project = createFreshProject('@x/lock-advisory', packages, mkdirIn(directory, 'readme'))
  runSnippets(project, snippetsOf(readFileSync(join(root, 'README.md'), 'utf8')))
})

test('Jest loads a package by require()', () => {
  const project = createFreshProject('@x/lock-core', packages, mkdirIn(directory, 'jest'), ['jest@30.5.2'])
  writeFileSync(
    join(project, 'lock.test.cjs'),
    `const { withLock } = require('@x/lock-core')
     const { createMemoryLocker } = require('@x/lock-core/memory')
     test('locks', async () => expect(await withLock(createMemoryLocker(), 'key', () => 42)).toBe(42))`,
  )
  const { status, stderr } = spawnSync('node', ['node_modules/jest/bin/jest.js', '--testMatch', '**/*.test.cjs'], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '--experimental-vm-modules' },
  })
  expect(stderr).toContain('1 passed')
  expect(status).toBe(0)
}, 600_000)

const mkdirIn = (parent: string, name: string): string => {
  mkdirSync(join(parent, name))
  return join(parent, name)
}

const runSnippets = (project: string, snippets: ReturnType<typeof snippetsOf>): void => {
  const files = snippets.map(({ code, run }, index) => {
    const file = join(project, `snippet-${index}.ts`)
    writeFileSync(file, `${code}\nexport {}\n`)
    return { file, run }
  })
  const options = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    noEmit: true,
    types: ['node'],
    skipLibCheck: false,
  }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: files.map(({ file }) => file) }),
  )
  const types = spawnSync('tsc', ['-p', 'tsconfig.json'], { cwd: project, encoding: 'utf8' })
  expect(types.stdout).toBe('')
  const { hostname, port, username, password, pathname } = new URL(database.url)
  const env = {
    ...process.env,
    DATABASE_URL: database.url,
    POSTGRES_SUPERVISOR_URL: database.url,
    PGHOST: hostname,
    PGPORT: port,
    PGUSER: username,
    PGPASSWORD: decodeURIComponent(password),
    PGDATABASE: pathname.slice(1),
  }
  for (const { file } of files.filter(({ run }) => run)) {
    const { status, stderr } = spawnSync('node', ['--no-warnings', file], {
      cwd: project,
      encoding: 'utf8',
      env,
      timeout: 120_000,
    })
    expect(stderr).toBe('')
    expect(status).toBe(0)
  }
}

describe('the check of packages fails', () => {
  const broken = (change: (contents: string) => void): readonly string[] => {
    const contents = mkdirIn(directory, `broken-${Math.random().toString(36).slice(2)}`)
    cpSync(packed('@x/lock-core').contents, contents, { recursive: true })
    change(contents)
    execFileSync('tar', [
      '-czf',
      `${contents}.tgz`,
      '-C',
      directory,
      '--transform',
      `s,^[^/]*,package,`,
      contents.slice(directory.length + 1),
    ])
    return faultsOf({ contents, tarball: `${contents}.tgz` })
  }
  test('when a published type names a private package', () => {
    const faults = broken((contents) => {
      writeFileSync(join(contents, 'dist/leak.d.ts'), `export type { Session } from '@x/pg-session'\n`)
    })
    expect(faults.join()).toContain(`names '@x/pg-session'`)
  })
  test('when the tarball points at sources that it does not carry', () => {
    const faults = broken((contents) => {
      const manifest = JSON.parse(readFileSync(join(contents, 'package.json'), 'utf8'))
      manifest.exports['.'] = './src/index.ts'
      writeFileSync(join(contents, 'package.json'), JSON.stringify(manifest))
    })
    expect(faults.length).toBeGreaterThan(0)
  })
  test('when a module does something on import', () => {
    const file = join(directory, 'noisy.mjs')
    writeFileSync(
      file,
      `setInterval(() => {}, 1000).unref(); console.log('hello'); globalThis.leak = process.env.PGHOST`,
    )
    const { stdout } = spawnSync('node', [probe, file], { encoding: 'utf8' })
    const { seen, handles, added } = JSON.parse(stdout.replace('hello\n', ''))
    expect(seen).toEqual(['setInterval', 'console.log', 'process.env.PGHOST'])
    expect([...handles, ...added]).toContain('leak')
  })
})
