/**
 * A mesh of processes that find each other through Postgres, connect over HTTP and share work by rendezvous. While it
 * runs, one is killed, one leaves, one comes. Exit code 0 only if everybody was linked to everybody in the end, and each
 * key had one owner.
 *
 * `node src/main.ts [--nodes 5] [--url postgres://…]`
 */
import { parseArgs } from 'node:util'
import { migrate } from '@x/cluster-discovery/migrations'
import { eventually, spawnNode, startPostgres, type TestProcess } from '@x/testkit'
import { Pool } from 'pg'
import { keys, type Topology, topology } from './protocol.ts'

const { values } = parseArgs({ options: { nodes: { type: 'string', default: '5' }, url: { type: 'string' } } })
const server = values.url === undefined ? await startPostgres() : null
const url = values.url ?? server?.url ?? ''
const pool = new Pool({ connectionString: url, max: 1 })
await migrate(pool)
await pool.end()

const startedAt = performance.now()
const say = (line: string): void =>
  console.log(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(5)} s  ${line}`)
const nodes = new Map<string, TestProcess<Topology>>()
const latest = new Map<string, Topology>()
let shown = ''

/** Prints the topology whenever it is another one. */
const show = (): void => {
  const line = [...latest.values()]
    .sort((a, b) => a.id.localeCompare(b.id))
    .map(({ id, links, owned }) => `${id}: ${links.length} links, ${owned.length} keys`)
    .join('   ')
  if (line !== shown) say(line)
  shown = line
}
const start = async (id: string): Promise<void> => {
  const onMessage = (told: Topology): void => {
    if (!nodes.has(id)) return
    latest.set(id, told)
    show()
  }
  nodes.set(
    id,
    await spawnNode(new URL('./node.ts', import.meta.url), { messages: topology, args: [url, id], onMessage }),
  )
}
const end = async (id: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => {
  const node = nodes.get(id)
  nodes.delete(id)
  latest.delete(id)
  await node?.kill(signal)
}

/** Everybody sees and is linked to everybody, and each key has one owner. */
const isWhole = (): boolean => {
  const ids = [...nodes.keys()].sort()
  const all = ids.flatMap((id) => latest.get(id) ?? [])
  const owned = all.flatMap((told) => told.owned)
  return (
    all.length === ids.length &&
    all.every(
      ({ id, members, links }) =>
        [...members].sort().join() === ids.join() && [...links, id].sort().join() === ids.join(),
    ) &&
    owned.length === keys.length &&
    new Set(owned).size === keys.length
  )
}
const whole = async (what: string): Promise<void> => {
  const since = performance.now()
  await eventually(isWhole, { deadlineMs: 30_000, what: `the mesh to be whole after: ${what}` })
  say(`✓ whole ${((performance.now() - since) / 1_000).toFixed(1)} s after: ${what}`)
}

const count = Number(values.nodes)
const ids = Array.from({ length: count }, (_, index) => `node-${index + 1}`)
try {
  await Promise.all(ids.map(start))
  await whole(`${count} nodes started`)
  // A node has to be in touch with the database for one ttl before it believes that others died.
  const wholeAt = performance.now()
  await eventually(() => performance.now() - wholeAt > 9_000, { deadlineMs: 15_000, everyMs: 100 })
  say(`kill -9 ${ids[1]}`)
  await end(ids[1] ?? '', 'SIGKILL')
  await whole(`kill -9 ${ids[1]}`)
  say(`${ids[2]} drains and leaves`)
  await end(ids[2] ?? '', 'SIGTERM')
  await whole(`${ids[2]} left`)
  say(`node-${count + 1} comes`)
  await start(`node-${count + 1}`)
  await whole(`node-${count + 1} came`)
  const handled = [...latest.values()].reduce((sum, told) => sum + told.handled, 0)
  say(`${handled} pieces of work handled by the nodes that are left`)
} finally {
  for (const id of [...nodes.keys()]) await end(id, 'SIGTERM')
  await server?.stop()
}
