import type { PgPool } from '@x/lock-core'
import { describe, expect, it } from 'vitest'
import { createTableLocker, type TableLocker } from '../../src/index.ts'
import { resolveOptions } from '../../src/options.ts'

const pool: PgPool = { options: {}, connect: () => Promise.reject(new Error('unreachable')) }
const url = 'postgres://user:secret@127.0.0.1:1/db'

describe('the connection', () => {
  it('comes from POSTGRES_SUPERVISOR_URL when no option names one', () => {
    const environment = { POSTGRES_SUPERVISOR_URL: url }
    expect(resolveOptions({}, environment).connectionString).toBe(url)
    expect(resolveOptions({ connectionString: 'postgres://other' }, environment).connectionString).toBe(
      'postgres://other',
    )
    expect(resolveOptions({ pool }, environment)).toMatchObject({ pool, connectionString: undefined })
  })

  it.each([[{}], [{ POSTGRES_SUPERVISOR_URL: '' }]])('is asked for by both names when there is none', (environment) => {
    expect(() => resolveOptions(undefined, environment)).toThrow(/pool and connectionString.*POSTGRES_SUPERVISOR_URL/)
  })

  it('is refused as an option when the driver cannot parse it, and not shown', () => {
    const refused = (): unknown => createTableLocker({ connectionString: 'postgres://user:secret@host:notaport/db' })
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS' }))
    expect(refused).not.toThrow(/secret/)
  })

  it('is not taken from two options', () => {
    expect(() => resolveOptions({ pool, connectionString: url }, {})).toThrow(
      /one of pool and connectionString; got both/,
    )
  })
})

describe('options', () => {
  it('have the documented defaults', () => {
    expect(resolveOptions({ pool }, {})).toMatchObject({
      listen: undefined,
      pollMs: 1_000,
      schema: 'coordination',
      table: 'locks',
      address: null,
      ttlMs: 30_000,
      claimMs: 2_000,
      clockMarginMs: 250,
      afterFailover: 'wait',
    })
    expect(resolveOptions({ pool, listen: false }, {}).listen).toBeNull()
    expect(resolveOptions({ pool, listen: url, wakeUps: 'poll' }, {}).listen).toBeNull()
  })

  it.each([
    ['ttlMs', { ttlMs: 99 }],
    ['ttlMs', { ttlMs: Number.NaN }],
    ['ttlMs', { ttlMs: Number.POSITIVE_INFINITY }],
    ['pollMs', { pollMs: 0 }],
    ['claimMs', { claimMs: -1 }],
    ['clockMarginMs', { clockMarginMs: -1 }],
    ['schema', { schema: '' }],
    ['schema', { schema: 'x'.repeat(64) }],
    ['table', { table: 'x'.repeat(64) }],
    ['table', { table: 'a\0b' }],
    ['wakeUps', { wakeUps: 'telepathy' }],
    ['acquirer.name', { acquirer: { name: '\ud800' } }],
    ['pool', { pool: {} }],
    ['listen', { listen: 7 }],
  ])('a bad %s is refused by name', (option, options) => {
    try {
      resolveOptions({ pool, ...options } as never, {})
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'INVALID_OPTIONS', option })
    }
  })

  it('an unknown one is refused, and nothing shows a password', () => {
    expect(() => resolveOptions({ pool, ttl: 5 } as never, {})).toThrow(/ttl/)
    try {
      resolveOptions({ connectionString: url, listen: 7 } as never, {})
      expect.unreachable()
    } catch (error) {
      expect(String(error)).not.toContain('secret')
    }
  })

  it('a table name that leaves no room for the names beside it is refused', () => {
    expect(() => createTableLocker({ pool, table: 'x'.repeat(55) })).toThrow(/option table/)
  })
})

describe('what an operator asks for', () => {
  it.each<[string, (locker: TableLocker) => Promise<unknown>]>([
    ['a filter that is none', (locker) => locker.list(null as never)],
    ['a filter with a name that is none', (locker) => locker.list({ key: 'a' } as never)],
    ['options that are none', (locker) => locker.forceRelease('a', null as never)],
    ['options with a name that is none', (locker) => locker.forceRelease('a', { now: true } as never)],
    ['an age that is none', (locker) => locker.prune(Symbol('age') as never)],
  ])('%s is refused before anything is sent', async (_, ask) => {
    await using locker = createTableLocker({ pool })
    await expect(ask(locker)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
  })
})
