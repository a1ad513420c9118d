import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { createMigrations } from '@x/pg-session'

const migrations = /* @__PURE__ */ createMigrations({
  package: 'fencing',
  migrations: ['0001_fencing'],
  entry: '@x/lock-advisory/migrations',
})

/**
 * Creates what `fencing: 'sequence'` and `checkFence` need; advisory locks themselves need no schema. Idempotent; any
 * number of processes may call it at once.
 *
 * @throws {SchemaError} SCHEMA_NEWER when a newer version of the package has migrated the schema beyond what this one knows
 * @example
 * import { migrate } from '@x/lock-advisory/migrations'
 * await migrate(pool)
 */
export const migrate = (pool: PgPool, options?: MigrationOptions): Promise<MigrationReport> =>
  migrations.migrate(pool, options)
