/**
 * A process of the floor: each of its nodes makes one bare update by primary key a heartbeat, on a pool as large as that of
 * real nodes, without waiting for the disk; and nothing else.
 */
import { commands, tell } from '@x/testkit'
import { Pool } from 'pg'
import { hostCommand, hostSettings } from './protocol.ts'

const heartbeatMs = 2_000
const settings = hostSettings.parse(JSON.parse(process.argv[2] ?? ''))
const pool = new Pool({
  connectionString: settings.url,
  max: settings.pool,
  idleTimeoutMillis: 0,
  options: '-c synchronous_commit=off',
})
pool.on('error', () => {})
const timers = new Map<string, NodeJS.Timeout>()
const nodes = Array.from({ length: settings.nodes }, (_, index) => `${settings.prefix}-${index}`)
for (const id of nodes) await pool.query('INSERT INTO bare_beats (id, at) VALUES ($1, clock_timestamp())', [id])
const beat = async (id: string): Promise<void> => {
  timers.set(
    id,
    setTimeout(() => void beat(id), heartbeatMs * (0.8 + 0.4 * Math.random())),
  )
  await pool.query({ name: 'beat', text: 'UPDATE bare_beats SET at = clock_timestamp() WHERE id = $1', values: [id] })
}
for (const id of nodes)
  timers.set(
    id,
    setTimeout(() => void beat(id), heartbeatMs * Math.random()),
  )
tell({ kind: 'joined' })

for await (const command of commands(hostCommand)) if (command.do === 'close') break
process.stdin.destroy()
for (const timer of timers.values()) clearTimeout(timer)
await pool.end()
