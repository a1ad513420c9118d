import { useDatabase } from '@x/testkit/vitest'
import { declareConformance } from '../support/conformance.ts'

declareConformance(useDatabase(), { wait: 'server' })
