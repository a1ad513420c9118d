import type { MigrationOptions, MigrationReport, PgPool } from '@x/lock-core'
import { createMigrations } from '@x/pg-session'

const migrations: ReturnType<typeof createMigrations> = /* @__PURE__ */ createMigrations({
  package: 'leader-input',
  migrations: ['0004_leader_input'],
})

/**
 * Brings the schema to what this version needs. Idempotent; any number of processes may call it at once. The role needs
 * the right to create the schema, and the role `coordination_capture` where it does not exist yet.
 *
 * @example
 * await migrate(pool, { schema: 'coordination' })
 */
export const migrate: (pool: PgPool, options?: MigrationOptions) => Promise<MigrationReport> = (pool, options) =>
  migrations.migrate(pool, options)

/** @throws {SchemaError} when the schema is missing, too old or too new */
export const checkSchema: typeof migrations.check = (runner, schema) => migrations.check(runner, schema)
