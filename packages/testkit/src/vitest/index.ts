/** A database for each test file, and tests that say what they need. */

export type { DatabaseTemplate } from '../database/template.ts'
export { describeWith } from './describe-with.ts'
export { type DatabaseOfFile, type UseDatabaseOptions, useDatabase } from './use-database.ts'
