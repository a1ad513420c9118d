import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { checkSchema, createMigrations, type PackageMigrations, type QueryRows } from '@x/pg-session'

const ours: PackageMigrations = { package: 'lock-table', migrations: ['0001_fencing', '0002_lock_table'] }
/** What an adopted table of another name needs besides its own objects. */
const shared: PackageMigrations = {
  package: 'fencing',
  migrations: ['0001_fencing'],
  entry: '@x/lock-table/migrations',
}

const migrations = /* @__PURE__ */ createMigrations(ours)

/**
 * Brings the schema to what this package needs. Idempotent; any number of processes may call it at once.
 *
 * @throws {SchemaError} SCHEMA_NEWER when a newer version of the package has migrated the schema beyond what this one knows
 * @example
 * import { migrate } from '@x/lock-table/migrations'
 * await migrate(pool)
 */
export const migrate = (pool: PgPool, options?: MigrationOptions): Promise<MigrationReport> =>
  migrations.migrate(pool, options)

/** @throws {SchemaError} SCHEMA_MISSING, SCHEMA_OUTDATED, SCHEMA_NEWER */
export const checkLockTable = (runner: QueryRows, schema: string, table: string): Promise<void> =>
  checkSchema(runner, table === 'locks' ? ours : shared, schema)
