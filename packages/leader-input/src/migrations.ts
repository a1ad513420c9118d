import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { migrations } from './schema.ts'

/**
 * Brings the schema to what this package needs. Idempotent; any number of processes may call it at once. The role needs the
 * right to create the schema, and the role `coordination_capture` where it does not exist yet.
 *
 * @throws {SchemaError} SCHEMA_NEWER when a newer version of the package has migrated the schema beyond what this one knows
 * @example
 * import { migrate } from '@x/leader-input/migrations'
 * await migrate(pool, { schema: 'coordination' })
 */
export const migrate = (pool: PgPool, options?: MigrationOptions): Promise<MigrationReport> =>
  migrations.migrate(pool, options)
