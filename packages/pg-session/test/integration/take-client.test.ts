import { EventEmitter, once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import { createRunner } from '../../src/index.ts'
import { takeClient } from '../../src/take-client.ts'

const database = useDatabase()
/** What is to be closed, the last one first. */
const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

/** What the server says when all is ready for queries. */
const ready = Buffer.from('Z\0\0\0\x05I', 'latin1')

const terminate = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'short-lived'`

/** A line on which the server's greeting and its last word come in one read: it ends each session that has just begun. */
const shortLivedLine = async (): Promise<string> => {
  const admin = await database.client()
  const { hostname, port } = new URL(database.url)
  const server: Server = createServer((socket) => {
    const upstream = connect(Number(port), hostname)
    const held: Buffer[] = []
    socket.pipe(upstream)
    socket.on('error', () => upstream.destroy())
    upstream.on('error', () => socket.destroy())
    upstream.on('data', (data: Buffer) => {
      const isReady = data.subarray(-ready.length).equals(ready)
      if (!isReady && held.length === 0) {
        socket.write(data)
        return
      }
      held.push(data)
      if (data.includes('57P01')) socket.end(Buffer.concat(held))
      // The test may be over first.
      if (isReady) admin.query(terminate).catch(() => {})
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const url = new URL(database.url)
  url.port = String(typeof address === 'object' ? address?.port : address)
  open.push({ close: () => admin.end() }, { close: () => server.close() })
  return url.href
}

describe('a session that the server ends while the pool hands it over', () => {
  it('fails the statement, and not the process', async () => {
    const uncaught: unknown[] = []
    const note = (error: unknown): void => void uncaught.push(error)
    process.on('uncaughtExceptionMonitor', note)
    const pool = new Pool({ connectionString: await shortLivedLine(), application_name: 'short-lived', max: 1 })
    // As every pool needs it, for its idle clients.
    pool.on('error', () => {})
    open.push({ close: () => pool.end() })
    const runner = createRunner({ pool, applicationName: 'short-lived' })
    const statement = { name: 'answer', text: 'SELECT 42' }
    await expect(runner.query(statement, [])).rejects.toMatchObject({ code: 'CONNECTION', retryable: true })
    expect(uncaught).toEqual([])
    process.off('uncaughtExceptionMonitor', note)
  })
})

it('listens once to a client that many borrowers have within one turn, and no longer than that', async () => {
  const pool = new Pool({ connectionString: database.url, max: 1 })
  open.push({ close: () => pool.end() })
  const listeners: number[] = []
  const borrow = async (): Promise<void> => {
    const client = await takeClient(pool)
    if (client instanceof EventEmitter) listeners.push(client.listenerCount('error'))
    client.release()
  }
  const usual = await pool.connect()
  const before = usual.listenerCount('error')
  usual.release()
  await Promise.all(Array.from({ length: 20 }, borrow))
  expect(Math.max(...listeners)).toBe(before + 1)
  await setImmediate()
  const after = await pool.connect()
  expect(after.listenerCount('error')).toBe(before)
  after.release()
})
