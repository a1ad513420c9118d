import { useDatabase } from '@x/testkit/vitest'
import { beforeAll, describe } from 'vitest'
import { declareConformance } from '../support/conformance.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

beforeAll(async () => {
  await database.pool().query(`ALTER DATABASE "${database.name}" SET default_transaction_isolation = 'serializable'`)
})

declareConformance('table, serializable', {
  url: () => database.url,
  options: () => ({ connectionString: database.url, pollMs: 50 }),
  schedules: 5,
})

// The line is the same; in the default run polling is shown straight to the server and through the pooler.
describe.runIf(process.env.COORDINATION_LONG === '1')('COORDINATION_LONG=1', () => {
  declareConformance('table, serializable, poll', {
    url: () => database.url,
    options: () => ({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 }),
    schedules: 5,
  })
})
