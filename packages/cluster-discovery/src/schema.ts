import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { createMigrations, type QueryRows } from '@x/pg-session'

const migrations: ReturnType<typeof createMigrations> = /* @__PURE__ */ createMigrations({
  package: 'cluster-discovery',
  migrations: ['0003_cluster_discovery'],
})

/**
 * Creates or updates the tables of cluster membership. Idempotent; any number of processes may call it at once. The same
 * SQL can be applied by hand: `migrations/0003_cluster_discovery.up.sql`.
 *
 * @throws {SchemaError} SCHEMA_NEWER when a newer version of the package has migrated the schema beyond what this one knows
 * @example
 * import { migrate } from '@x/cluster-discovery/migrations'
 * await migrate(pool)
 */
export function migrate(pool: PgPool, options?: MigrationOptions): Promise<MigrationReport> {
  return migrations.migrate(pool, options)
}

/** @throws {SchemaError} SCHEMA_MISSING, SCHEMA_OUTDATED, SCHEMA_NEWER */
export function checkTables(runner: QueryRows, schema: string): Promise<void> {
  return migrations.check(runner, schema)
}
