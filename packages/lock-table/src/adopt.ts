import { ConfigurationError, type MigrationReport, type PgPool, SchemaError } from '@x/lock-core'
import { checkOptionNames } from '@x/lock-core/adapter'
import { checkPool, createMigrations, createRunner, fromPgError, renderMigration, takeClient } from '@x/pg-session'
import { objectOf } from './names.ts'
import { migrate } from './schema.ts'

const fencing = /* @__PURE__ */ createMigrations({
  package: 'fencing',
  migrations: ['0001_fencing'],
  entry: '@x/lock-table/migrations',
})

/** The names of the migration, longest first. */
const names =
  /\b(lock_renew_shares|lock_grant_alike|lock_hand_off|lock_sessions|lock_timeline|lock_tickets|lock_waiters|lock_release|lock_shares|lock_grant|lock_renew|active_locks|locks)\b/g

/**
 * Upgrades a supervisor's classic table (`key`, `is_acquired`, `session_id`, `acquirer_name`, `acquirer_address`,
 * `acquired_at`) where it stands: what others hold in it goes on being held, readers of the six columns go on reading the
 * truth, and writers that know nothing of leases are respected, now and later. Their rows are held until they are released
 * or forced. Idempotent. `migrations/0002_lock_table.down.sql` gives the classic table back.
 *
 * @throws {ConfigurationError} before anything is sent
 * @throws {SchemaError} SCHEMA_MISSING when there is no such table
 * @throws {QueryError} when the table has other columns
 * @example
 * import { adopt } from '@x/lock-table/migrations'
 * await adopt(pool, { schema: 'blacksmith_supervisor' })
 * const locker = createTableLocker({ pool, schema: 'blacksmith_supervisor' })
 */
export async function adopt(
  pool: PgPool,
  options: { schema: string /** @default 'locks' */; table?: string | undefined },
): Promise<MigrationReport> {
  checkPool(pool, 'adopt')
  checkOptionNames(options, ['schema', 'table'], 'adopt')
  const { schema, table = 'locks' } = options
  if (!/^[a-z_][a-z0-9_]{0,49}$/.test(table)) {
    throw new ConfigurationError(
      `adopt: option table: expected lower-case letters, digits and underscores, at most 50; got ${JSON.stringify(table)}`,
      { option: 'table' },
    )
  }
  const columns = await columnsOf(pool, schema, table)
  if (columns.size === 0) {
    throw new SchemaError(
      'SCHEMA_MISSING',
      `adopt: expected the classic table ${schema}.${table}; got none: run migrate(pool) for a table of our own`,
    )
  }
  if (table === 'locks') return migrate(pool, { schema })
  const { applied } = await fencing.migrate(pool, { schema })
  if (columns.has('fencing_token')) return { applied, version: 1 }
  await runScript(pool, renamed(renderMigration('0002_lock_table', 'up', schema, { schemaExists: true }), table))
  return { applied: [...applied, '0002_lock_table'], version: 1 }
}

/** The migration with every object named after the table; recorded apart from that of `locks`. */
const renamed = (sql: string, table: string): string =>
  sql
    .replaceAll(/--.*$/gm, '')
    .replaceAll(names, (name) => objectOf(table, name))
    .replace(`'lock-table'`, `'lock-table:${table}'`)

const columnsOf = async (pool: PgPool, schema: string, table: string): Promise<Set<string>> => {
  const runner = createRunner({ pool, applicationName: 'lock-table' })
  const rows = await runner.query<readonly [string]>(
    {
      name: 'lock_table_columns',
      text: `SELECT a.attname::text FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped`,
    },
    [schema, table],
  )
  return new Set(rows.map(([name]) => name))
}

const runScript = async (pool: PgPool, sql: string): Promise<void> => {
  const client = await takeClient(pool)
  try {
    await client.query('BEGIN')
    await client.query(sql)
    await client.query('COMMIT')
    client.release()
  } catch (error) {
    client.release(true)
    throw fromPgError(error, 'adopt')
  }
}
