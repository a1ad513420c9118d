import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { createMigrations } from '@x/pg-session'

const own: ReturnType<typeof createMigrations> = /* @__PURE__ */ createMigrations({
  package: 'cluster-discovery',
  migrations: ['0003_cluster_discovery'],
})

/**
 * Creates or updates the tables of cluster membership. Idempotent; any number of processes may call it at once. The same
 * SQL can be applied by hand: `migrations/0003_cluster_discovery.up.sql`.
 * @throws {SchemaError} when the schema is newer than this code can work with
 */
export function migrate(pool: PgPool, options?: MigrationOptions): Promise<MigrationReport> {
  return own.migrate(pool, options)
}

/** @internal */
export const checkTables: typeof own.check = own.check
