import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate } from '@x/cluster-discovery/migrations'
import { spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, test } from 'vitest'
import { topology } from '../../src/protocol.ts'

const database = useDatabase({ template: { name: 'mesh', prepare: async (pool) => void (await migrate(pool)) } })

// Its own deadlines come first: they say what was missing.
test('the mesh is whole after a start, a kill, a leave and a newcomer', { timeout: 180_000 }, async () => {
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [main, '--nodes', '4', '--url', database.url])
  expect(stdout.match(/✓ whole/g), stdout).toHaveLength(4)
})

test('a node that was let go in the meantime ends in good order all the same', async () => {
  await using node = await spawnNode(new URL('../../src/node.ts', import.meta.url), {
    messages: topology,
    args: [database.url, 'twin'],
  })
  await node.message(({ members }) => members.includes('twin'))
  const pool = database.pool()
  await using other = createClusterDiscovery({
    pool,
    cluster: 'mesh',
    node: { id: 'twin', name: 'twin' },
    listen: false,
  })
  await other.join()
  expect(await node.kill('SIGTERM'), node.output()).toEqual({ code: 0, signal: null })
  expect(node.output()).toContain('NODE_EVICTED')
})
