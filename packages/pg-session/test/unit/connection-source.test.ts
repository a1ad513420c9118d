import pg from 'pg'
import { describe, expect, it } from 'vitest'
import { connectionSource } from '../../src/index.ts'

describe('connectionSource', () => {
  it.each([{}, { connectionString: 'postgres://a/b', connection: 'postgres://a/b' }])(
    'wants exactly one: %j',
    (options) => {
      expect(() => connectionSource(options, 'createThing')).toThrow(/createThing: expected exactly one/)
    },
  )

  it('asks of what is undefined whether the variable is set that it comes from', () => {
    expect(() => connectionSource({ connectionString: process.env.NO_SUCH_VARIABLE }, 'createThing')).toThrow(
      'got none, because connectionString is undefined: is the variable set that it comes from?',
    )
    expect(() => connectionSource({ connectionString: 5 as never }, 'createThing')).toThrow(
      expect.objectContaining({
        option: 'connectionString',
        message: expect.stringContaining('expected a string; got 5'),
      }),
    )
  })

  it.each([
    ['a pg Client', new pg.Client({})],
    ['a pool', new pg.Pool()],
  ])('does not take %s for the settings of a connection', (what, connection) => {
    expect(() => connectionSource({ connection: connection as never }, 'createThing')).toThrow(
      expect.objectContaining({ option: 'connection', message: expect.stringContaining(`; got ${what}`) }),
    )
  })

  it('lends the settings of a pool, without those that belong to the pool', async () => {
    const pool = new pg.Pool({
      host: 'db',
      user: 'app',
      password: 'hunter2',
      ssl: { rejectUnauthorized: false },
      max: 3,
      idleTimeoutMillis: 1,
      connectionTimeoutMillis: 0,
      query_timeout: 5,
      statement_timeout: 5,
    })
    const settings = await connectionSource({ pool }, 'x').settings()
    expect(settings).toEqual({ host: 'db', user: 'app', password: 'hunter2', ssl: { rejectUnauthorized: false } })
    await pool.end()
  })

  it('gives an object of its own for each attempt', async () => {
    const source = connectionSource({ connection: { host: 'db' } }, 'x')
    expect(await source.settings()).not.toBe(await source.settings())
  })

  it('asks a function anew for each attempt, and passes a password function on', async () => {
    let asked = 0
    const password = (): string => 'token'
    const source = connectionSource({ connection: () => ({ host: `db${++asked}`, password }) }, 'x')
    expect(await source.settings()).toMatchObject({ host: 'db1', password })
    expect(await source.settings()).toMatchObject({ host: 'db2' })
  })

  it.each(['host=127.0.0.1 dbname=app password=hunter2', '127.0.0.1:5432/app', 'app'])(
    'refuses what is no URL, which the driver would take for a path on a host called base: %s',
    (connectionString) => {
      expect(() => connectionSource({ connectionString }, 'x')).toThrow(/expected postgres:.*; got something else$/)
    },
  )

  it.each(['postgres://base/app', 'postgresql:///app', '/var/run/postgresql app', 'socket:/run/pg?db=app', '//db/app'])(
    'takes what the driver takes: %s',
    async (connectionString) => {
      expect(await connectionSource({ connectionString }, 'x').settings()).toEqual({ connectionString })
    },
  )

  it('never shows what may hold a password', () => {
    for (const connectionString of ['postgres://u:hunter2@[bad/db', '', 'postgres://u:hunter2@h:port%%/db']) {
      try {
        connectionSource({ connectionString }, 'createThing')
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_OPTIONS', option: 'connectionString' })
        expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('hunter2')
      }
    }
    expect(() => connectionSource({ connectionString: '' }, 'x')).toThrow(/expected postgres:/)
    expect(() => connectionSource({ connectionString: 'postgres://u:hunter2@h:99999999/db' }, 'x')).toThrow(
      /expected postgres:/,
    )
  })

  it('refuses what is no connection', async () => {
    expect(() => connectionSource({ connection: 5 as never }, 'x')).toThrow(/option connection/)
    await expect(connectionSource({ connection: () => null as never }, 'x').settings()).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
    })
  })
})
