import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { type OwnPool, openPool } from '../../src/index.ts'

const database = useDatabase()
const open = (connectionString: string, logged: string[] = []): OwnPool => {
  const log = (_fields: object, message: string): void => void logged.push(message)
  const logger = { debug: log, info: log, warn: log, error: log }
  return openPool({ connectionString, application_name: 'testkit' }, logger)
}

describe('a pool of our own', () => {
  it('replaces connections that were lost while idle, and says so', async () => {
    await using proxy = await tcpProxy(database.url)
    const logged: string[] = []
    const own = open(proxy.url(database.url), logged)
    await Promise.all([own.pool.query('SELECT pg_sleep(0.05)'), own.pool.query('SELECT pg_sleep(0.05)')])
    expect(own.pool.idleCount).toBe(2)
    proxy.cut()
    await eventually(() => own.pool.totalCount === 0)
    expect(logged).toEqual(['idle connection lost', 'idle connection lost'])
    expect((await own.pool.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    await own.end()
  })

  it('leaves no connection open that failed for want of a password', async ({ skip }) => {
    await using proxy = await tcpProxy(database.url)
    const url = new URL(proxy.url(database.url))
    url.password = ''
    const own = open(url.href)
    const failed = await own.pool.query('SELECT 1').catch((error: unknown) => error)
    if (!String(failed).includes('password')) skip('this server asks for no password')
    await eventually(() => proxy.open === 0)
    await own.end()
  })

  it('waits at its end for a client that is out, however long that takes', async () => {
    const own = open(database.url)
    const client = await own.pool.connect()
    let ended = false
    const ending = own.end().then(() => {
      ended = true
    })
    expect((await client.query('SELECT pg_sleep(2.5), 1 AS n')).rows).toMatchObject([{ n: 1 }])
    expect(ended).toBe(false)
    client.release()
    await ending
  })

  it('does not wait for the goodbye of dead lines, also of one that comes back late', async () => {
    await using proxy = await tcpProxy(database.url)
    const own = open(proxy.url(database.url))
    const clients = await Promise.all([own.pool.connect(), own.pool.connect()])
    clients[1]?.release()
    proxy.halfOpen()
    const ending = own.end()
    await eventually(() => own.pool.totalCount === 1)
    clients[0]?.release()
    const late = Symbol('late')
    const outcome = await Promise.race([ending, new Promise((resolve) => setTimeout(resolve, 20_000, late).unref())])
    expect(outcome).not.toBe(late)
  })
})
