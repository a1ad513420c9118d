import { useDatabase } from '@x/testkit/vitest'
import { declareConformance } from '../support/conformance.ts'
import { lockAdvisory } from '../support/template.ts'

declareConformance(useDatabase({ template: lockAdvisory }), { wait: 'notify', fencing: 'sequence' })
