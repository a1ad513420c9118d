import { inspect } from 'node:util'
import { type CoordinationError, hasErrorCode } from '@x/lock-core'
import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import pg from 'pg'
import { afterAll, describe, expect, it } from 'vitest'
import { connectionSource, createListener, createRunner, migrate, openSession } from '../../src/index.ts'

const database = useDatabase()
const applicationName = 'pg-session errors'
const one = { name: 'one', text: 'SELECT 1' }
const password = 'hunter2'
const changed = (change: (url: URL) => void): string => {
  const url = new URL(database.url)
  change(url)
  return url.href
}
const refusing = tcpProxy(1)
afterAll(async () => (await refusing).close())

/** Each way into a database, with the error that comes out. */
const ways: Readonly<Record<string, (url: string) => Promise<unknown>>> = {
  'a session': (connectionString) =>
    openSession({ source: connectionSource({ connectionString }, 'test'), applicationName }),
  'a listener': async (connectionString) => {
    const listener = createListener({
      source: connectionSource({ connectionString }, 'test'),
      applicationName,
      onNotification: () => {},
      onResync: () => {},
    })
    listener.listen('orders').catch(() => {})
    try {
      return await eventually(() => (listener.state.status === 'connecting' ? listener.state.lastError : null))
    } finally {
      await listener.close()
    }
  },
  'a statement on a pool of our own': async (connectionString) => {
    const runner = createRunner({ connectionString, applicationName })
    return runner.query(one, []).finally(() => runner.close())
  },
  'a transaction on the caller’s pool': async (connectionString) => {
    const runner = createRunner({ pool: database.pool({ connectionString }), applicationName })
    return runner.transaction(async () => {}).finally(() => runner.close())
  },
  'migrate()': (connectionString) =>
    migrate(database.pool({ connectionString }), { package: 'fencing', migrations: ['0001_fencing'] }),
}

/** The mistakes that everybody makes once, and what the message must say. */
const mistakes: Readonly<
  Record<string, { url: () => string | Promise<string>; says: string; retryable: boolean; notOn?: string[] }>
> = {
  'nobody listens there': {
    url: () => `postgres://app:${password}@127.0.0.1:1/app`,
    says: 'ECONNREFUSED 127.0.0.1:1; check that it runs, and the host and port',
    retryable: true,
  },
  'the host does not exist': {
    // A label of 64 characters is refused by the resolver itself: no name server is asked, who may take his time.
    url: () => `postgres://app:${password}@${'x'.repeat(64)}.invalid/app`,
    says: 'x.invalid; check the host',
    retryable: true,
  },
  'the server resets the connection': {
    url: async () => {
      const proxy = await refusing
      proxy.refuse()
      return `postgres://app:${password}@127.0.0.1:${proxy.port}/app`
    },
    says: 'ECONNRESET',
    retryable: true,
  },
  'the password is wrong': {
    url: () => changed((url) => Object.assign(url, { password })),
    says: 'check user and password',
    retryable: false,
  },
  'the password is missing': {
    url: () => changed((url) => Object.assign(url, { password: '' })),
    says: 'check user and password',
    retryable: false,
    // pg-pool leaves such a connection open, and the database cannot be dropped while the server waits for the password.
    notOn: ['a transaction on the caller’s pool', 'migrate()'],
  },
  'there is no such database': {
    url: () => changed((url) => Object.assign(url, { pathname: '/nothing' })),
    says: 'database "nothing" does not exist; create it, or correct the name',
    retryable: false,
  },
  'the server has no TLS': {
    url: () => changed((url) => url.searchParams.set('sslmode', 'require')),
    says: 'set ssl (sslmode in a connection string)',
    retryable: false,
  },
}

describe.each(Object.entries(mistakes))('when %s', (_what, { url, says, retryable, notOn = [] }) => {
  it.each(Object.entries(ways).filter(([way]) => !notOn.includes(way)))(
    '%s says what to do, and no password',
    async (_way, use) => {
      const caught = await use(await url()).catch((error: unknown) => error)
      const error = caught as CoordinationError
      expect(error).toMatchObject({ code: 'CONNECTION', retryable })
      expect(error.message).toMatch(/^database connection: expected .+, got: .+; .+/)
      expect(error.message).toContain(says)
      expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(password)
      const real = decodeURIComponent(new URL(database.url).password)
      if (real !== '') expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(real)
    },
  )
})

describe('a pool', () => {
  it('that was ended is named', async () => {
    const pool = database.pool()
    await pool.end()
    const runner = createRunner({ pool, applicationName })
    await expect(runner.query(one, [])).rejects.toMatchObject({
      code: 'CONNECTION',
      retryable: false,
      message: expect.stringContaining('expected an open pool'),
    })
  })

  it.each(['throws', 'rejects'])('whose connect() %s gives one of our errors', async (how) => {
    const connect = (): never => {
      throw new Error('no token')
    }
    const pool = { options: {}, connect: how === 'throws' ? connect : async () => connect() }
    await expect(createRunner({ pool, applicationName }).query(one, [])).rejects.toMatchObject({
      code: 'CONNECTION',
      message: expect.stringContaining('got: no token'),
    })
  })

  // A client of pg-native has its library's handle as `native`; the library needs a compiler to install.
  it('of pg-native is refused', async () => {
    const pool = database.pool()
    pool.on('connect', (client) => void Object.assign(client, { native: {} }))
    const runner = createRunner({ pool, applicationName })
    const refused = { code: 'INVALID_OPTIONS', message: expect.stringContaining('use pg.Pool and not pg.native.Pool') }
    await expect(runner.query(one, [])).rejects.toMatchObject(refused)
    await expect(migrate(pool, { package: 'fencing', migrations: ['0001_fencing'] })).rejects.toMatchObject(refused)
    // The client went back.
    expect(pool.idleCount).toBe(pool.totalCount)
  })
})

describe('with pg-native as the driver of the process', () => {
  it('a session is refused', async () => {
    const Original = pg.Client
    pg.Client = class extends Original {
      readonly native = {}
    }
    try {
      const error = await ways['a session']?.(database.url).catch((caught: unknown) => caught)
      expect(hasErrorCode(error, 'INVALID_OPTIONS')).toBe(true)
      expect(String(error)).toContain('NODE_PG_FORCE_NATIVE')
    } finally {
      pg.Client = Original
    }
  })
})
