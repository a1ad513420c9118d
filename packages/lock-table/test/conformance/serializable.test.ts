import { useDatabase } from '@x/testkit/vitest'
import { beforeAll } from 'vitest'
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
