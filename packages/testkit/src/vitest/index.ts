/** A database for each test file. */
export type { DatabaseTemplate } from '../database/template.ts'
export { type DatabaseOfFile, type UseDatabaseOptions, useDatabase } from './use-database.ts'
