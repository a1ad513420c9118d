import { eventually, type PrimaryWithStandby, primaryWithStandby, withAdmin } from '@x/testkit'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  checkFence,
  connectionSource,
  createListener,
  type ListenerState,
  migrate,
  openSession,
} from '../../src/index.ts'
import { drawTokenSql } from '../draw-token.ts'

let servers: PrimaryWithStandby
beforeAll(async () => {
  servers = await primaryWithStandby()
})
afterAll(async () => {
  await servers[Symbol.asyncDispose]()
})

const sessionOf = (url: string, requirePrimary = true) =>
  openSession({
    source: connectionSource({ connectionString: url }, 'test'),
    applicationName: 'failover',
    requirePrimary,
  })
const draw = async (url: string): Promise<bigint> =>
  withAdmin(url, async (client) =>
    BigInt((await client.query(`SELECT ${drawTokenSql('coordination')} AS t`)).rows[0].t),
  )

describe('a standby', () => {
  it('is refused for session locks, although it would grant them', async () => {
    await servers.caughtUp()
    await expect(sessionOf(servers.standby.url)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      retryable: true,
      message: expect.stringContaining('standby'),
    })
    const session = await sessionOf(servers.standby.url, false)
    const asked = { name: 'asked', text: 'SELECT pg_is_in_recovery(), pg_try_advisory_lock(1)' }
    expect(await session.query(asked, [])).toEqual([[true, true]])
    await session.close()
  })
})

describe('a failover to a standby that missed the last commits', () => {
  it('raises fencing tokens all the same, and a listener that waits for a primary hears', async () => {
    const { primary, standby, replication } = servers
    const pool = new pg.Pool({ connectionString: primary.url })
    await migrate(pool, { package: 'fencing', migrations: ['0001_fencing'] })
    await pool.end()
    await draw(primary.url)
    await servers.caughtUp()

    const states: ListenerState[] = []
    let resyncs = 0
    const listener = createListener({
      source: connectionSource({ connectionString: standby.url }, 'test'),
      applicationName: 'failover',
      onNotification: () => {},
      onResync: () => {
        resyncs += 1
      },
      onStateChange: (state) => states.push(state),
    })
    const listening = listener.listen('orders')
    await eventually(() =>
      states.some((state) => state.status === 'connecting' && state.lastError?.code === 'UNSUPPORTED'),
    )

    // The standby hears nothing of these. More than the 32 numbers that the sequence logs ahead.
    replication.blackHole()
    let last = 0n
    for (let n = 0; n < 50; n += 1) last = await draw(primary.url)
    await servers.promote()
    const after = await draw(standby.url)
    expect(after).toBeGreaterThan(last)
    expect(after >> 48n).toBe(2n)
    await listening
    expect(resyncs).toBe(1)
    await listener.close()

    // The old primary is still there, and its holder still writes. On the new one it is refused.
    await withAdmin(standby.url, async (client) => {
      await client.query('BEGIN')
      await checkFence(client, { resource: 'r', token: after })
      await client.query('COMMIT; BEGIN')
      await expect(checkFence(client, { resource: 'r', token: await draw(primary.url) })).rejects.toMatchObject({
        code: 'STALE_FENCE',
      })
      await client.query('ROLLBACK')
    })
  })
})
