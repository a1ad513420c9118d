import { type MigrationOptions, type MigrationReport, type PgPool, UnsupportedError } from '@x/lock-core'
import type { QueryRows } from './detect.ts'

/** The migrations of one package, in order: names of files in `migrations/` without `.up.sql`. */
export interface PackageMigrations {
  /** As it stands in `schema_versions`, such as `lock-table`. */
  readonly package: string
  readonly migrations: readonly string[]
}

/** Brings the schema to what this code needs. Idempotent; any number of processes may call it at once. */
export function migrate(
  _pool: PgPool,
  _list: PackageMigrations,
  _options?: MigrationOptions,
): Promise<MigrationReport> {
  throw new UnsupportedError('not yet')
}

/** The `migrate` and `check` functions of a package. `check` is for its first use of the database. */
export function createMigrations(_list: PackageMigrations): {
  migrate: (pool: PgPool, options?: MigrationOptions) => Promise<MigrationReport>
  check: (runner: QueryRows, schema: string) => Promise<void>
} {
  throw new UnsupportedError('not yet')
}

/** @throws {SchemaError} SCHEMA_MISSING, SCHEMA_OUTDATED, SCHEMA_NEWER */
export function checkSchema(_runner: QueryRows, _list: PackageMigrations, _schema: string): Promise<void> {
  throw new UnsupportedError('not yet')
}
