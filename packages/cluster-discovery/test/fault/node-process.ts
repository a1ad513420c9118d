/** One node in a process of its own; says whatever it sees. */
import { commands, monotonicMicros, tell } from '@x/testkit'
import pg from 'pg'
import { createClusterDiscovery } from '../../src/index.ts'
import { nodeCommand, nodeSettings } from './node-protocol.ts'

const settings = nodeSettings.parse(JSON.parse(process.argv[2] ?? ''))

if (settings.clockShiftMs !== 0) {
  const now = Date.now.bind(Date)
  Date.now = () => now() + settings.clockShiftMs
}

const pool = new pg.Pool({ connectionString: settings.url, max: 2, application_name: 'testkit' })
pool.on('error', () => {})
const discovery = createClusterDiscovery({
  pool,
  cluster: settings.cluster,
  ...(settings.listen ? {} : { listen: false }),
  heartbeatMs: settings.heartbeatMs,
  ttlMs: settings.ttlMs,
  node: { id: settings.id, name: settings.id },
})
const seen = (node: { id: string; incarnation: bigint; state: string }) => ({
  id: node.id,
  incarnation: `${node.incarnation}`,
  state: node.state,
})

const watching = (async () => {
  for await (const event of discovery.watch()) {
    const at = Number(monotonicMicros())
    const version = `${event.version}`
    if (event.type === 'snapshot')
      tell({ kind: 'event', at, event: { type: 'snapshot', version, nodes: event.nodes.map(seen) } })
    else if ('node' in event) tell({ kind: 'event', at, event: { type: event.type, version, node: seen(event.node) } })
    else tell({ kind: 'other', at, type: event.type, cause: 'cause' in event ? event.cause : '' })
  }
})()

await discovery.join()
tell({ kind: 'joined', incarnation: `${discovery.self.incarnation}` })
for await (const command of commands(nodeCommand)) {
  if (command.do === 'close') break
  tell({
    kind: 'view',
    number: command.number,
    self: discovery.self.state,
    version: `${discovery.version}`,
    nodes: discovery.nodes().map(seen),
  })
}
process.stdin.destroy()
await discovery.close()
await watching
await pool.end()
tell({ kind: 'closed' })
