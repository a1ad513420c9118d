import { commands, tell } from '@x/testkit'
import { Client } from 'pg'
import { z } from 'zod'
import { checkFence, createTableLocker } from '../../src/index.ts'

/** A process that holds or waits for one key, and writes under its fence when told to. */
const [url = '', key = '', ttlMs = '1000'] = process.argv.slice(2)
const locker = createTableLocker({ connectionString: url, pollMs: 100 })
const client = new Client({ connectionString: url, application_name: 'testkit' })
await client.connect()
tell({ said: 'ready' })
const lock = await locker.acquire(key, { ttlMs: Number(ttlMs) })
let told = false
lock.signal.addEventListener('abort', () => {
  told = true
})
tell({ said: 'held', token: String(lock.fencingToken) })

for await (const { write } of commands(z.object({ write: z.string() }))) {
  // Read before anything else can run: a process that was stopped comes back right here.
  const state = { held: lock.isHeld(), aborted: lock.signal.aborted, told }
  let code = 'none'
  await client.query('BEGIN')
  try {
    await checkFence(client, { resource: key, token: lock.fencingToken ?? 0n })
    await client.query('INSERT INTO written (value) VALUES ($1)', [write])
    await client.query('COMMIT')
  } catch (error) {
    code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    await client.query('ROLLBACK')
  }
  tell({ said: 'wrote', ...state, code })
}
