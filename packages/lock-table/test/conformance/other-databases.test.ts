import { type OtherDatabase, type OtherDatabaseServer, otherDatabaseMissing, startOtherDatabase } from '@x/testkit'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { migrate } from '../../src/migrations.ts'
import { declareConformance } from '../support/conformance.ts'

const missing = await otherDatabaseMissing()

describe.each<OtherDatabase>(['cockroachdb', 'yugabytedb'])('%s', (name) => {
  if (missing !== null) {
    it(`the conformance suite on ${name}`, ({ skip }) => skip(missing))
    return
  }
  let server: OtherDatabaseServer
  beforeAll(async () => {
    server = await startOtherDatabase(name)
    const pool = new Pool({ connectionString: server.url, max: 1 })
    await migrate(pool)
    await pool.end()
  }, 300_000)
  afterAll(() => server[Symbol.asyncDispose]())

  declareConformance(`table, on ${name}`, {
    url: () => server.url,
    options: () => ({ connectionString: server.url, pollMs: 50 }),
    schedules: 5,
  })
})
