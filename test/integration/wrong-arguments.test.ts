import { createClusterDiscovery, createLibclusterDiscovery } from '@x/cluster-discovery'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { migrate as migrateAdvisory } from '@x/lock-advisory/migrations'
import { createLeaderElector, type MigrationOptions, type MigrationReport, type PgPool } from '@x/lock-core'
import { createMemoryLocker } from '@x/lock-core/memory'
import { createTableLocker } from '@x/lock-table'
import { adopt, migrate as migrateTable } from '@x/lock-table/migrations'
import pg from 'pg'
import { describe, expect, it, vi } from 'vitest'

/** What is passed in the place of something else; each is refused by name, and before anything is sent. */

const takers: Readonly<Record<string, (pool: PgPool) => unknown>> = {
  createTableLocker: (pool) => createTableLocker({ pool }),
  createAdvisoryLocker: (pool) => createAdvisoryLocker({ pool }),
  createClusterDiscovery: (pool) => createClusterDiscovery({ pool, cluster: 'app', node: { name: 'one' } }),
  createLeaderInput: (pool) =>
    createLeaderInput<{ orders: { id: number } }>({
      pool,
      name: 'orders',
      locker: createMemoryLocker(),
      tables: ['orders'],
    }),
}

type Migrate = (pool: PgPool, options?: MigrationOptions) => Promise<MigrationReport>
const migrations: Readonly<Record<string, Migrate>> = {
  'lock-table': migrateTable,
  'lock-advisory': migrateAdvisory,
  'cluster-discovery': migrateCluster,
  'leader-input': migrateInput,
}

const expected = 'option pool: expected a pg Pool, such as new pg.Pool({ connectionString }) gives'

describe.each(Object.entries(takers))('%s', (name, take) => {
  it('refuses a client for a pool', () => {
    const client = new pg.Client('postgres://app:hunter2@127.0.0.1:1/app')
    const connect = vi.spyOn(client, 'connect')
    expect(() => take(client as unknown as PgPool)).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTIONS',
        option: 'pool',
        message: `${name}: ${expected}; got a pg Client, which is one connection`,
      }),
    )
    expect(connect).not.toHaveBeenCalled()
  })

  it('refuses a connection string for a pool, and does not show it', () => {
    for (const text of ['postgres://app:hunter2@127.0.0.1:1/app', 'host=db password=hunter2']) {
      expect(() => take(text as unknown as PgPool)).toThrow(
        expect.objectContaining({
          code: 'INVALID_OPTIONS',
          message: `${name}: ${expected}; got a value of type string`,
        }),
      )
    }
  })
})

/** Whatever takes a logger and a policy. */
const observed: Readonly<Record<string, (options: object) => unknown>> = {
  createTableLocker: (options) => createTableLocker({ pool: new pg.Pool(), ...options }),
  createAdvisoryLocker: (options) => createAdvisoryLocker({ pool: new pg.Pool(), ...options }),
  createClusterDiscovery: (options) =>
    createClusterDiscovery({ pool: new pg.Pool(), cluster: 'app', node: { name: 'one' }, ...options }),
  createLibclusterDiscovery: (options) =>
    createLibclusterDiscovery({
      connectionString: 'postgres://db/app',
      nodeName: 'one@10.0.0.7',
      channelName: 'cluster',
      ...options,
    }),
  createLeaderInput: (options) =>
    createLeaderInput<{ orders: { id: number } }>({
      pool: new pg.Pool(),
      name: 'orders',
      locker: createMemoryLocker(),
      tables: ['orders'],
      ...options,
    }),
  createLeaderElector: (options) => createLeaderElector({ locker: createMemoryLocker(), key: 'office', ...options }),
  createMemoryLocker: (options) => createMemoryLocker(options),
}

describe.each(Object.entries(observed))('%s', (name, create) => {
  it('refuses a logger or a policy that lacks a method, now and not when it is called', () => {
    for (const logger of ['debug', {}, { ...console, warn: undefined }]) {
      expect(() => create({ logger })).toThrow(
        `${name}: option logger: expected an object with debug(), info(), warn(), error(); got `,
      )
    }
    expect(() => create({ policy: () => {} })).toThrow(
      `${name}: option policy: expected an object with execute(); got a function`,
    )
    create({ logger: console, policy: { execute: (fn: () => unknown) => fn() } })
  })
})

describe.each(Object.entries(migrations))('migrate of %s', (_, migrate) => {
  it.each<[string, unknown, string]>([
    ['a connection string', 'postgres://app:hunter2@127.0.0.1:1/app', 'a value of type string'],
    ['nothing', undefined, 'nothing'],
    ['a client', new pg.Client(), 'a pg Client, which is one connection'],
    ['options of a pool', { connectionString: 'postgres://db/app' }, 'a value of type object'],
  ])('refuses %s for a pool', async (_what, pool, got) => {
    await expect(migrate(pool as PgPool)).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      option: 'pool',
      retryable: false,
      message: `migrate: ${expected}; got ${got}`,
    })
  })

  it('refuses an option that does not exist, and sends nothing', async () => {
    const pool = new pg.Pool()
    const connect = vi.spyOn(pool, 'connect')
    const mistyped: object = { schemas: 'app' }
    await expect(migrate(pool, mistyped)).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      option: 'schemas',
      message: 'migrate: option schemas: there is no such option; did you mean schema?',
    })
    await expect(migrate(pool, 'app' as MigrationOptions)).rejects.toMatchObject({
      message: 'migrate: expected an object of options; got "app"',
    })
    expect(connect).not.toHaveBeenCalled()
  })
})

it('adopt refuses the same', async () => {
  const options = { schema: 'blacksmith_supervisor' }
  await expect(adopt('postgres://db/app' as unknown as PgPool, options)).rejects.toMatchObject({
    code: 'INVALID_OPTIONS',
    message: `adopt: ${expected}; got a value of type string`,
  })
  const mistyped: object = { schema: 'x', tabel: 'y' }
  await expect(adopt(new pg.Pool(), mistyped as typeof options)).rejects.toMatchObject({
    message: 'adopt: option tabel: there is no such option; did you mean table?',
  })
})

it('createLeaderInput says what tables may be, and names the option of a table that was meant', () => {
  const make = (tables: unknown) => () =>
    createLeaderInput<{ orders: { id: number } }>({
      pool: new pg.Pool(),
      name: 'orders',
      locker: createMemoryLocker(),
      tables: tables as ['orders'],
    })
  expect(make('orders')).toThrow(
    'option tables: expected an array of table names (one at least), { patterns: […] }, or an object with an entry for each table; got "orders"',
  )
  expect(make([])).toThrow('; got an empty array')
  expect(make({ orders: { operation: ['update'] } })).toThrow(
    'option tables.orders.operation: there is no such option; did you mean operations?',
  )
})
