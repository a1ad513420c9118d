import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { migrate } from '@x/cluster-discovery/migrations'
import { useDatabase } from '@x/testkit/vitest'
import { expect, test } from 'vitest'

const database = useDatabase({ template: { name: 'mesh', prepare: async (pool) => void (await migrate(pool)) } })

test('the mesh is whole after a start, a kill, a leave and a newcomer', () => {
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const run = spawnSync(process.execPath, [main, '--nodes', '4', '--url', database.url], {
    encoding: 'utf8',
    timeout: 55_000,
  })
  expect(run.stdout.match(/✓ whole/g), run.stdout + run.stderr).toHaveLength(4)
  expect(run.status).toBe(0)
})
