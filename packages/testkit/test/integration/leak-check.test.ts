import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { withAdmin } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { execa } from 'execa'
import { describe, expect, it } from 'vitest'

const database = useDatabase()
const fixture = fileURLToPath(new URL('../fixtures/leaky-run', import.meta.url))

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly title: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

const run = async (env: Record<string, string>) => {
  const directory = mkdtempSync(join(tmpdir(), 'leak-check-'))
  const reportFile = join(directory, 'report.json')
  const { stdout, stderr } = await execa(
    'vitest',
    [
      'run',
      '--config',
      `${fixture}/vitest.config.ts`,
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      '--reporter=default',
    ],
    {
      cwd: fixture,
      preferLocal: true,
      localDir: fileURLToPath(new URL('../../../..', import.meta.url)),
      reject: false,
      env: { ...env, NO_COLOR: '1', VITEST: undefined, VITEST_POOL_ID: undefined, VITEST_WORKER_ID: undefined },
    },
  )
  const report: Report = JSON.parse(readFileSync(reportFile, 'utf8'))
  rmSync(directory, { recursive: true })
  return { tests: report.testResults.flatMap((file) => file.assertionResults), output: `${stdout}\n${stderr}` }
}

describe('a run of leaky tests', () => {
  it('fails each of them with what it left, keeps their databases and drops the others', async () => {
    const { tests, output } = await run({ DATABASE_URL: database.adminUrl })
    const message = (title: string): string => {
      const test = tests.find((candidate) => candidate.title === title)
      return test ? `${test.status} ${test.failureMessages.join('\n')}` : `no such test in:\n${output}`
    }
    expect(message('leaves an advisory lock')).toContain('advisory lock (0, 4711, 1) ExclusiveLock')
    expect(message('leaves a connection')).toContain("connection of 'left-behind'")
    expect(message('leaves a listener')).toContain('listener')
    expect(message('leaves a transaction open')).toContain('open transaction')
    for (const kind of ['global', 'node:timers', 'node:timers/promises']) {
      expect(message(`leaves a timer of ${kind}`)).toMatch(/timer set at .*leave-timer\.ts/)
    }
    expect(message('leaves nothing')).toMatch(/^passed/)
    const named = [...output.matchAll(/in database (x_\w+)/g)].map((match) => match[1])
    const kept = await withAdmin(database.adminUrl, async (client) => {
      const names = [...new Set(named)]
      const { rows } = await client.query('SELECT datname FROM pg_database WHERE datname = ANY ($1)', [names])
      const run = names[0]?.split('_')[1]
      const left = await client.query('SELECT datname FROM pg_database WHERE datname LIKE $1', [`x\\_${run}\\_%`])
      for (const name of names) await client.query(`DROP DATABASE "${name}"`)
      return { named: names.length, there: rows.length, left: left.rowCount }
    })
    expect(kept).toEqual({ named: 2, there: 2, left: 2 })
  })
})
