/** Postgres for tests, and the means to break it. */

export type { DatabaseTemplate } from './database/template.ts'
export { type CreateDatabaseOptions, createDatabase, type TestDatabase } from './database/test-database.ts'
export { type EventuallyOptions, eventually } from './faults/eventually.ts'
export type { StopMode } from './postgres/postmaster.ts'
export { type PrivatePostgres, startPrivatePostgres } from './postgres/private-postgres.ts'
export type { ServerSettings } from './postgres/settings.ts'
export {
  type PostgresProvider,
  type PostgresServer,
  type StartPostgresOptions,
  startPostgres,
} from './postgres/start-postgres.ts'
export { majors, type PostgresMajor, wantedMajor } from './postgres/version.ts'
