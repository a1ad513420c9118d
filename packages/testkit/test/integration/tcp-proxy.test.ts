import { eventually, type TcpProxy, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Client } from 'pg'
import { describe, expect, it } from 'vitest'

const database = useDatabase()

const through = async (proxy: TcpProxy): Promise<Client & AsyncDisposable> => {
  const client = new Client({ connectionString: proxy.url(database.url), application_name: 'proxied' })
  client.on('error', () => {})
  await client.connect()
  // A client behind a dead line never ends: its socket is closed on this side.
  return Object.assign(client, { [Symbol.asyncDispose]: async () => void client.connection.stream.destroy() })
}
const outcome = (promise: Promise<unknown>, ms: number): Promise<string> =>
  Promise.race([
    promise.then(
      () => 'answered',
      () => 'failed',
    ),
    new Promise<string>((resolve) => setTimeout(resolve, ms, 'silence')),
  ])

describe('tcpProxy', () => {
  it('passes statements and large results through, and counts connections', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    const { rows } = await client.query(`SELECT repeat('x', 5000000) AS big`)
    expect(rows[0].big.length).toBe(5_000_000)
    expect([proxy.accepted, proxy.open]).toEqual([1, 1])
    await client.end()
    await eventually(() => proxy.open === 0)
  })

  it('delays each direction', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    proxy.delay(60)
    const started = performance.now()
    await client.query('SELECT 1')
    expect(performance.now() - started).toBeGreaterThanOrEqual(119)
    proxy.heal()
    // More than one look: a busy machine is slow as well.
    await eventually(async () => {
      const healed = performance.now()
      await client.query('SELECT 1')
      return performance.now() - healed < 119
    })
  })

  it('throttles', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    proxy.throttle(100_000, 'to-client')
    const started = performance.now()
    await client.query(`SELECT repeat('x', 30000)`)
    expect(performance.now() - started).toBeGreaterThan(250)
  })

  it('cuts with a reset that the client sees at once', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    const sleeping = client.query('SELECT pg_sleep(30)')
    const ended = expect(sleeping).rejects.toThrow(/ECONNRESET|terminated/)
    proxy.cut()
    await ended
    // The backend reads its socket when its statement ends; the test's database is dropped by then.
    await database
      .pool()
      .query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'proxied'`,
      )
  })

  it('half-opens: silence for open connections, service for new ones', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    proxy.halfOpen()
    expect(await outcome(client.query('SELECT 1'), 300)).toBe('silence')
    await using second = await through(proxy)
    await expect(second.query('SELECT 1')).resolves.toBeDefined()
    const seen = await database
      .pool()
      .query(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'proxied'`)
    expect(seen.rowCount).toBe(2)
  })

  it.each(['to-server', 'to-client'] as const)('holds bytes %s until healed', async (direction) => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    await client.query('CREATE TABLE IF NOT EXISTS held (direction text)')
    proxy.blackHole(direction)
    const inserted = client.query('INSERT INTO held VALUES ($1)', [direction])
    expect(await outcome(inserted, 300)).toBe('silence')
    const arrived = async (): Promise<number | null> =>
      (await database.pool().query('SELECT 1 FROM held WHERE direction = $1', [direction])).rowCount
    if (direction === 'to-server') expect(await arrived()).toBe(0)
    else await expect.poll(arrived).toBe(1)
    proxy.heal()
    await inserted
  })

  it('swallows exactly the reply to one statement: done on the server, unknown to the client', async () => {
    await using proxy = await tcpProxy(database.url)
    await using client = await through(proxy)
    await client.query('CREATE TABLE once (n int)')
    const swallowed = proxy.swallowNextReply({ matching: 'INSERT INTO once' })
    await client.query('SELECT 1')
    await expect(client.query('INSERT INTO once VALUES (1)')).rejects.toThrow()
    await swallowed
    const { rowCount } = await database.pool().query('SELECT 1 FROM once')
    expect(rowCount).toBe(1)
    await using second = await through(proxy)
    await second.query('INSERT INTO once VALUES (2)')
  })

  it('refuses new connections until healed', async () => {
    await using proxy = await tcpProxy(database.url)
    proxy.refuse()
    await expect(through(proxy)).rejects.toThrow()
    proxy.heal()
    await using client = await through(proxy)
    await client.query('SELECT 1')
  })
})
