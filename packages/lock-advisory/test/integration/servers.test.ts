import { connect, createServer } from 'node:net'
import { pgbouncer, primaryWithStandby } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { acquireInTransaction, createAdvisoryLocker } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database)

describeWith('pgbouncer', 'behind PgBouncer', () => {
  it('in transaction mode the locker refuses, and a transaction takes its lock', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction' })
    const locker = createLocker({ connection: pooler.url(database.url) })
    for (const use of [() => locker.acquire('key'), () => locker.tryAcquire('key'), () => locker.ping()]) {
      await expect(use()).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    }
    const client = new Client({ connectionString: pooler.url(database.url) })
    await client.connect()
    await client.query('BEGIN')
    await acquireInTransaction(client, { key: 'key', waitTimeoutMs: 500 })
    expect(await createLocker().tryAcquire('key')).toBe(null)
    await client.query('COMMIT')
    await (await createLocker().acquire('key', { waitTimeoutMs: 0 })).release()
    await client.end()
  })

  it('in session mode it refuses as well, unless told that the pooler pins sessions', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const connection = pooler.url(database.url)
    await expect(createLocker({ connection }).acquire('key')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    for (const wait of ['notify', 'server', 'poll'] as const) {
      const [one, other] = [
        createLocker({ connection, pooler: 'session', wait }),
        createLocker({ connection, pooler: 'session', wait }),
      ]
      const lock = await one.acquire('key')
      expect(await other.tryAcquire('key')).toBe(null)
      const waiter = other.acquire('key')
      await lock.release()
      await (await waiter).release()
      await Promise.all([one.close(), other.close()])
    }
  })
})

describe('a standby', () => {
  it('is refused: it grants advisory locks that exclude nobody', async () => {
    await using servers = await primaryWithStandby()
    await servers.caughtUp()
    const direct = [
      new Client({ connectionString: servers.standby.url }),
      new Client({ connectionString: servers.primary.url }),
    ]
    for (const client of direct) {
      await client.connect()
      // Why: the same lock twice.
      expect((await client.query('SELECT pg_try_advisory_lock(1) AS ok')).rows).toEqual([{ ok: true }])
    }
    await Promise.all(direct.map((client) => client.end()))
    await using locker = createAdvisoryLocker({ connectionString: servers.standby.url })
    await expect(locker.acquire('key')).rejects.toMatchObject({ code: 'UNSUPPORTED', retryable: true })
  })
})

describe('a server that accepts advisory locks and does nothing', () => {
  it('is refused', async () => {
    const admin = await database.client()
    // The locker's own server, on a line that turns the lock function into one that only says yes.
    await admin.query('CREATE SCHEMA nolockings')
    await admin.query(
      `CREATE FUNCTION nolockings.pg_try_advisory_xact_lock_shared(bigint) RETURNS bool LANGUAGE sql AS 'SELECT true'`,
    )
    const target = new URL(database.url)
    const line = createServer((client) => {
      const server = connect(Number(target.port), target.hostname)
      client.on('data', (bytes) => {
        const text = bytes.toString('latin1').replaceAll('pg_catalog.pg_try', 'nolockings.pg_try')
        server.write(Buffer.from(text, 'latin1'))
      })
      server.pipe(client)
      client.on('close', () => server.destroy())
      client.on('error', () => server.destroy())
      server.on('error', () => client.destroy())
    })
    await new Promise<void>((resolve) => line.listen(0, '127.0.0.1', resolve))
    const address = line.address()
    const through = new URL(database.url)
    through.port = String(typeof address === 'object' ? address?.port : '')
    const locker = createLocker({ connection: through.href })
    await expect(locker.acquire('key')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('lock-table'),
    })
    await locker.close()
    await new Promise((resolve) => line.close(resolve))
    await admin.query('DROP SCHEMA nolockings CASCADE')
    await admin.end()
  })
})

describe('shared memory', () => {
  it('is taken up to the limit, interest of waiters included, and what is over it is refused with the limit named', async () => {
    const locker = createLocker({ maxLocks: 3, pollMs: 50 })
    const locks = await Promise.all(['a', 'b'].map((key) => locker.acquire(key)))
    const foreign = await createLocker().acquire('c')
    // A place for the lock, and none for the interest: it waits by looking.
    const waiting = locker.acquire('c')
    await expect(locker.acquire('d')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('maxLocks'),
    })
    await foreign.release()
    const third = await waiting
    await locks[0]?.release()
    await (await locker.acquire('d')).release()
    await Promise.all([locks[1]?.release(), third.release()])
  })

  it('by default up to a quarter of the server’s slots', async () => {
    const client = await database.client()
    const { rows } = await client.query<{ slots: number }>(
      `SELECT current_setting('max_locks_per_transaction')::int
              * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) AS slots`,
    )
    await client.end()
    const limit = Math.floor((rows[0]?.slots ?? 0) / 4)
    const locker = createLocker()
    await (await locker.acquire('warm')).release()
    const locks = await Promise.all(Array.from({ length: limit }, (_, index) => locker.acquire(`key ${index}`)))
    await expect(locker.acquire('one more')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('max_locks_per_transaction'),
    })
    await Promise.all(locks.map((lock) => lock.release()))
    await (await locker.acquire('one more')).release()
  })
})
