import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { migrate } from '@x/cluster-discovery/migrations'
import { useDatabase } from '@x/testkit/vitest'
import { expect, test } from 'vitest'

const database = useDatabase({ template: { name: 'mesh', prepare: async (pool) => void (await migrate(pool)) } })

// Its own deadlines come first: they say what was missing.
test('the mesh is whole after a start, a kill, a leave and a newcomer', { timeout: 180_000 }, async () => {
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [main, '--nodes', '4', '--url', database.url])
  expect(stdout.match(/✓ whole/g), stdout).toHaveLength(4)
})
