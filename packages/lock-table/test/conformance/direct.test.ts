import { useDatabase } from '@x/testkit/vitest'
import { declareConformance } from '../support/conformance.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

declareConformance('table, listen', {
  url: () => database.url,
  options: () => ({ connectionString: database.url }),
})
declareConformance('table, poll', {
  url: () => database.url,
  options: () => ({ connectionString: database.url, wakeUps: 'poll', pollMs: 50 }),
})
