/**
 * A process of the plain heartbeat broadcast, as libcluster_postgres does it: each node sends its name on one channel,
 * and each listens to all.
 */
import { commands, tell } from '@x/testkit'
import { Client } from 'pg'
import { hostCommand, hostSettings } from './protocol.ts'

const heartbeatMs = 2_000
const settings = hostSettings.parse(JSON.parse(process.argv[2] ?? ''))
let notifications = 0
const clients = await Promise.all(
  Array.from({ length: settings.nodes }, async (_, index) => {
    const client = new Client({ connectionString: settings.url })
    client.on('notification', () => {
      notifications += 1
    })
    await client.connect()
    await client.query(`LISTEN "${settings.cluster}"`)
    let timer: NodeJS.Timeout
    const beat = async (): Promise<void> => {
      timer = setTimeout(beat, heartbeatMs * (0.8 + 0.4 * Math.random()))
      await client.query(`NOTIFY "${settings.cluster}", '${settings.prefix}-${index}@host'`)
    }
    timer = setTimeout(beat, heartbeatMs * Math.random())
    return { client, stop: () => clearTimeout(timer) }
  }),
)
tell({ kind: 'joined' })

for await (const command of commands(hostCommand)) {
  if (command.do === 'close') break
  tell({ kind: 'heard', notifications })
}
process.stdin.destroy()
for (const { stop } of clients) stop()
await Promise.all(clients.map(({ client }) => client.end()))
