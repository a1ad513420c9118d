import type { DatabaseTemplate } from '@x/testkit'
import { migrate } from '../../src/migrations.ts'

/** A database in which fencing tokens can be drawn from the sequence. */
export const lockAdvisory: DatabaseTemplate = {
  name: 'lock-advisory',
  prepare: async (pool) => void (await migrate(pool)),
}
