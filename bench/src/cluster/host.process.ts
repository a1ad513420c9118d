/** A process of the simulation: hosts real nodes and says when all of them have seen a change. */
import { type ClusterDiscovery, createClusterDiscovery } from '@x/cluster-discovery'
import { commands, monotonicMicros, tell } from '@x/testkit'
import { Pool } from 'pg'
import { hostCommand, hostSettings } from './protocol.ts'

const settings = hostSettings.parse(JSON.parse(process.argv[2] ?? ''))
const pool = new Pool({ connectionString: settings.url, max: settings.pool, idleTimeoutMillis: 0 })
pool.on('error', () => {})

const seen = new Map<string, number>()
const downs = new Set<string>()
let recording = false
const saw = (change: 'join' | 'leave' | 'down', id: string): void => {
  if (change === 'down' && !downs.has(id)) {
    downs.add(id)
    tell({ kind: 'down', id })
  }
  if (!recording) return
  const key = `${change} ${id}`
  const count = (seen.get(key) ?? 0) + 1
  seen.set(key, count)
  if (count === settings.nodes) {
    seen.delete(key)
    tell({ kind: 'seen', change, id, at: Number(monotonicMicros()) })
  }
}

const nodes: ClusterDiscovery[] = Array.from({ length: settings.nodes }, (_, index) => {
  const id = settings.nodes === 1 ? settings.prefix : `${settings.prefix}-${index}`
  const node = createClusterDiscovery({
    pool,
    cluster: settings.cluster,
    node: { id, name: id, address: `http://10.0.0.1:${8_000 + index}` },
    ...(settings.listen ? { connectionString: settings.url } : { listen: false }),
  })
  for (const change of ['join', 'leave', 'down'] as const) node.on(change, (event) => saw(change, event.node.id))
  return node
})
// As many at once as there are connections: a join that waits for one is no join yet.
const waiting = [...nodes]
await Promise.all(
  Array.from({ length: settings.pool }, async () => {
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) await node.join()
  }),
)
tell({ kind: 'joined' })

for await (const command of commands(hostCommand)) {
  if (command.do === 'close') break
  recording = true
}
process.stdin.destroy()
await Promise.all(nodes.map((node) => node.close()))
await pool.end()
