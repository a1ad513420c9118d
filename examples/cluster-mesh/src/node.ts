/** One node of the mesh, a process of its own. `node src/node.ts <database url> <id>` */
import { createClusterDiscovery, rendezvous } from '@x/cluster-discovery'
import { tell } from '@x/testkit'
import { Pool } from 'pg'
import { PeerLinks } from './peer-links.ts'
import { keys } from './protocol.ts'

const [url = '', id = ''] = process.argv.slice(2)
let handled = 0
const links = new PeerLinks((key) => {
  handled += 1
  return `${key} was handled by ${id}`
})
const pool = new Pool({ connectionString: url, max: 2 })
pool.on('error', () => {})
const discovery = createClusterDiscovery({
  pool,
  cluster: 'mesh',
  node: { id, name: id, address: await links.listen() },
  connect: links.connect,
  disconnect: links.disconnect,
})

/** New work goes to those who stay: a node that drains is a member, but asks for none. */
const ownerOf = (key: string) => rendezvous(key, discovery.nodes({ states: ['up'] }))

const report = (): void =>
  tell({
    id,
    members: discovery.nodes().map((node) => node.id),
    links: links.linked(),
    owned: keys.filter((key) => ownerOf(key)?.id === id),
    handled,
  })

const work = setInterval(async () => {
  const key = keys[Math.floor(Math.random() * keys.length)] ?? ''
  const owner = ownerOf(key)
  if (owner?.id === id) handled += 1
  // An owner that has just gone does not answer; somebody else owns the key as soon as the cluster knows.
  else if (owner !== undefined) await links.handOver(key, owner).catch(() => {})
}, 50)
const reports = setInterval(report, 100)

process.once('SIGTERM', async () => {
  // A node that was let go in the meantime has nothing to drain, and one without a database cannot: it goes all the same.
  await discovery.drain().catch((error: unknown) => console.error('not drained:', error))
  clearInterval(work)
  clearInterval(reports)
  await discovery.close()
  links.close()
  await pool.end()
  process.exit(0)
})
await discovery.join()
