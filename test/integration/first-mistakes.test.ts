import { inspect } from 'node:util'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { createLeaderInput } from '@x/leader-input'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { checkFence, createTableLocker } from '@x/lock-table'
import { useDatabase } from '@x/testkit/vitest'
import type pg from 'pg'
import { describe, expect, it } from 'vitest'

/** What everybody does wrong once: the migration forgotten, and a connection that leads nowhere. */
const database = useDatabase()

/** The first call of each package, on a pool and the string that it was made with. */
const firstCalls: Readonly<Record<string, (pool: pg.Pool, connectionString: string) => Promise<unknown>>> = {
  'lock-table': async (pool) => {
    await using locker = createTableLocker({ pool })
    return await locker.tryAcquire('report')
  },
  'lock-advisory': async (_pool, connectionString) => {
    await using locker = createAdvisoryLocker({ connectionString, fencing: 'sequence' })
    return await locker.tryAcquire('report')
  },
  'cluster-discovery': async (pool) => {
    const cluster = createClusterDiscovery({ pool, cluster: 'app', node: { name: 'one' }, listen: false })
    try {
      return await cluster.join()
    } finally {
      await cluster[Symbol.asyncDispose]()
    }
  },
  'leader-input': async (pool, connectionString) => {
    await using locker = createAdvisoryLocker({ connectionString })
    await using input = createLeaderInput<{ orders: { id: number } }>({
      pool,
      name: 'orders',
      locker,
      tables: ['orders'],
    })
    return await input.install()
  },
}

describe.each(Object.entries(firstCalls))('the first call of %s', (name, call) => {
  it('without the migration names the line that runs it', async () => {
    const pool = database.pool()
    await pool.query('CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY)')
    const error: unknown = await call(pool, database.url).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'SCHEMA_MISSING', retryable: false })
    expect(String(error)).toContain(`run once: import { migrate } from '@x/${name}/migrations'; await migrate(pool);`)
  })

  it('on a server that is not there says where it looked and what to check, and no password', async () => {
    const connectionString = 'postgres://app:hunter2@127.0.0.1:1/app'
    const pool = database.pool({ connectionString })
    const error = await call(pool, connectionString).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'CONNECTION', retryable: true })
    expect((error as Error).message).toMatch(
      /^database connection: expected .+, got: connect ECONNREFUSED 127\.0\.0\.1:1; check that it runs/,
    )
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hunter2')
  })
})

// A client of pg-native has its library's handle as `native`; the library needs a compiler to install.
it.each(['lock-table', 'cluster-discovery', 'leader-input'])('%s refuses a pool of pg-native', async (name) => {
  const pool = database.pool()
  pool.on('connect', (client) => void Object.assign(client, { native: {} }))
  await expect(firstCalls[name]?.(pool, database.url)).rejects.toMatchObject({
    code: 'INVALID_OPTIONS',
    message: expect.stringContaining('use pg.Pool and not pg.native.Pool'),
  })
  expect(pool.idleCount).toBe(pool.totalCount)
})

it('checkFence without the migration names the line that runs it', async () => {
  const client = await database.client()
  await client.query('BEGIN')
  await expect(checkFence(client, { resource: 'r', token: 1n })).rejects.toMatchObject({
    code: 'SCHEMA_MISSING',
    message: expect.stringContaining(
      `run once: import { migrate } from '@x/lock-table/migrations'; await migrate(pool);`,
    ),
  })
  await client.query('ROLLBACK')
  await client.end()
})
