import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { migrate as migrateAdvisory } from '@x/lock-advisory/migrations'
import { migrate as migrateTable } from '@x/lock-table/migrations'
import { eventually, spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'

const database = useDatabase({
  leakCheck: 'off', // each recipe runs in a process that the test kills
  template: {
    name: 'recipes',
    async prepare(pool) {
      for (const migrate of [migrateTable, migrateAdvisory, migrateCluster, migrateInput]) await migrate(pool)
      await pool.query(`CREATE TABLE orders (id int PRIMARY KEY, state text); INSERT INTO orders VALUES (1, 'new')`)
    },
  },
})

/** What to see when the recipe under this heading works; `SELECT` is a question to ask of the database. */
const recipes: Readonly<Record<string, string>> = {
  'Run a nightly job once': 'reported b',
  'Charge a card': 'charged order 1 under order-1',
  'Serialise transactions':
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'recipe' AND query ILIKE 'commit'",
  'Keep one process in charge': 'dispatching under token',
  'Run at most N at a time': 'imported customers.csv',
  'Know who is alive': "SELECT FROM coordination.nodes WHERE address = '10.0.0.1:7000' AND state = 'up'",
  'React to changes': 'update of order 1',
}

const guide = fileURLToPath(new URL('../../../../docs/choosing-a-lock.md', import.meta.url))
let directory = ''
const files = new Map<string, string>()

beforeAll(async () => {
  // Beside this file, so that the recipes find the packages as their reader would.
  directory = await mkdtemp(join(import.meta.dirname, '.recipes-'))
  for (const section of (await readFile(guide, 'utf8')).split(/^## /m)) {
    const code = /```ts\n(.*?)```/s.exec(section)?.[1]
    if (code === undefined) continue
    const heading = section.slice(0, section.indexOf('\n'))
    const path = join(directory, `${heading.toLowerCase().replaceAll(' ', '-')}.ts`)
    const nodeImports = code.includes('hostname()') ? `import { hostname } from 'node:os'\n` : ''
    await writeFile(path, `import '../recipe-world.ts'\n${nodeImports}${code}\nexport {}\n`)
    files.set(heading, path)
  }
})
afterAll(() => rm(directory, { recursive: true }))

describe('the recipes of docs/choosing-a-lock.md', () => {
  it('are all known to this test', () => {
    expect([...files.keys()]).toEqual(Object.keys(recipes))
  })

  it('compile', () => {
    const config = fileURLToPath(new URL('../../../../tsconfig.base.json', import.meta.url))
    const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(config, ts.sys.readFile).config, ts.sys, '.')
    const program = ts.createProgram([...files.values()], {
      ...options,
      declaration: false,
      isolatedDeclarations: false,
    })
    const problems = ts.getPreEmitDiagnostics(program).filter(({ file }) => file?.fileName.startsWith(directory))
    expect(problems.map(({ file, messageText }) => `${file?.fileName}: ${JSON.stringify(messageText)}`)).toEqual([])
  }, 180_000) // the compiler, on a busy machine

  it.each(Object.entries(recipes))('%s: works', async (heading, evidence) => {
    const client = await database.client()
    const file = new URL(`file://${files.get(heading)}`)
    await using recipe = await spawnNode(file, { messages: z.never(), env: { RECIPE_URL: database.url } })
    await eventually(
      async () => {
        await client.query('UPDATE orders SET state = state') // something to react to
        if (evidence.startsWith('SELECT')) return (await client.query(evidence)).rowCount === 1
        expect(recipe.output()).toContain(evidence)
        return true
      },
      { deadlineMs: 60_000, everyMs: 100, what: evidence },
    )
    await client.end()
  })
})
