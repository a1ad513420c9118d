import { type Pgbouncer, pgbouncer } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { declareConformance } from '../support/conformance.ts'
import { lockTable } from '../support/template.ts'

describeWith('pgbouncer', 'through pgbouncer in transaction mode', () => {
  // The pooler keeps its connections to the server.
  const database = useDatabase({ template: lockTable, leakCheck: 'off' })
  let pooler: Pgbouncer
  beforeAll(async () => {
    pooler = await pgbouncer({ url: database.adminUrl, mode: 'transaction' })
  })
  afterAll(() => pooler.stop())

  declareConformance('table, pooled, poll', {
    url: () => database.url,
    options: () => ({ connectionString: pooler.url(database.url), wakeUps: 'poll', pollMs: 50 }),
    schedules: 5,
  })
  declareConformance('table, pooled, listening past the pooler', {
    url: () => database.url,
    options: () => ({ connectionString: pooler.url(database.url), listen: database.url }),
    schedules: 5,
  })

  it('who listens through the pooler hears nothing, notices, and polls', async () => {
    await using locker = createTableLocker({ connectionString: pooler.url(database.url), pollMs: 50 })
    await using other = createTableLocker({ connectionString: database.url, pollMs: 50 })
    const lock = await other.acquire('pooled')
    const waiting = locker.acquire('pooled')
    await expect.poll(async () => (await other.status('pooled')).waiters).toBe(1)
    await lock.release()
    await (await waiting).release()
    const { rows } = await database.pool().query('SELECT DISTINCT channel FROM coordination.lock_sessions')
    expect(rows).toEqual([{ channel: null }])
  })
})
