import { type Pgbouncer, pgbouncer } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll } from 'vitest'
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
})
