import { pgbouncer } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { connectionSource, openSession, type Session, type SessionOptions } from '../../src/index.ts'

const database = useDatabase()
const open = (url: string, options: Partial<SessionOptions> = {}): Promise<Session> =>
  openSession({
    source: connectionSource({ connectionString: url }, 'test'),
    applicationName: 'pg-session detect',
    ...options,
  })

describe('a setting that the server refuses', () => {
  it('costs only itself', async () => {
    const session = await open(database.url, { settings: { lock_timeout: 'no number', statement_timeout: '5s' } })
    const shown = {
      name: 'shown',
      text: `SELECT current_setting('lock_timeout'), current_setting('statement_timeout')`,
    }
    expect(await session.query(shown, [])).toEqual([['0', '5s']])
    await session.close()
  })
})

describeWith('pgbouncer', 'a session behind a pooler', () => {
  it.each(['transaction', 'session'] as const)('in %s mode is refused', async (mode) => {
    await using pooler = await pgbouncer({ url: database.url, mode })
    const url = pooler.url(database.url)
    await expect(open(url, { pooler: 'refuse' })).rejects.toMatchObject({
      code: 'POOLER_DETECTED',
      message: expect.stringContaining("goes past it, or say pooler: 'session' if the pooler pins sessions"),
    })
    // Of packages whose users have no such option.
    await expect(open(url)).rejects.toMatchObject({
      code: 'POOLER_DETECTED',
      message: expect.stringMatching(/^session: expected .* goes past it$/),
    })
  })

  it('leaves nothing of itself on the backend that others get next', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction', poolSize: 1 })
    const next = await database.client({ connectionString: pooler.url(database.url) })
    const state = async (): Promise<unknown> =>
      (
        await next.query(`SELECT pg_backend_pid(), current_setting('tcp_user_timeout'), current_setting('client_connection_check_interval'),
        (SELECT count(*)::int FROM pg_prepared_statements) AS prepared`)
      ).rows
    const before = await state()
    await expect(open(pooler.url(database.url))).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    expect(await state()).toEqual(before)
    await next.end()
  })

  it('that pins sessions is a session', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const session = await open(pooler.url(database.url), { pooler: 'session' })
    const rows = await session.query({ name: 'pid', text: 'SELECT pg_backend_pid()' }, [])
    expect(rows).toEqual([[session.pid]])
    await session.close()
  })
})
