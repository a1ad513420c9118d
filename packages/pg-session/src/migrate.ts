import { setTimeout as delay } from 'node:timers/promises'
import { type MigrationOptions, type MigrationReport, type PgPool, PrivilegeError, SchemaError } from '@x/lock-core'
import { checkOptionNames, checkPatience } from '@x/lock-core/adapter'
import { BorrowedClient } from './borrowed-client.ts'
import { checkPool } from './check-pool.ts'
import { quoteIdentifier } from './identifiers.ts'
import { Limit } from './limit.ts'
import { type Migration, readMigration, renderMigration } from './migration.ts'
import { sqlStateOf } from './sqlstate.ts'
import type { QueryRows, Statement } from './statement.ts'
import { defaultSchema, toMigrate } from './to-migrate.ts'

/** The migrations of one package, in order. */
export interface PackageMigrations {
  /** As it stands in `schema_versions`, such as `lock-table`. */
  readonly package: string
  /** Names of files in `migrations/` without `.up.sql`; those of other packages that it builds on come first. */
  readonly migrations: readonly string[]
  /** Where its `migrate` is imported from, for messages. @default that of the package */
  readonly entry?: string | undefined
}

/**
 * The `migrate` of a package, for its `migrations` entry, and the `check` for its first use of the database.
 *
 * @example
 * export const { migrate, check } = createMigrations({ package: 'lock-table', migrations: ['0001_fencing', '0002_lock_table'] })
 */
export function createMigrations(list: PackageMigrations): {
  migrate: (pool: PgPool, options?: MigrationOptions) => Promise<MigrationReport>
  check: (runner: QueryRows, schema: string) => Promise<void>
} {
  return {
    migrate: (pool, options) => migrate(pool, list, options),
    check: (runner, schema) => checkSchema(runner, list, schema),
  }
}

/**
 * Brings the schema to what this code needs. Idempotent, and safe when many processes do it at once. Each file is one
 * transaction that locks its package's row in `schema_versions`, so that the others wait and then find it done; before the
 * table is there, those who come second fail on what the first created, and look again. No advisory lock is used: not
 * every server has them, and through a transaction pooler they would exclude nobody.
 *
 * @throws {ConfigurationError} before anything is sent
 * @throws {PrivilegeError} naming the GRANT
 * @throws {SchemaError} SCHEMA_NEWER when a later version of the package has changed the schema beyond this code
 */
export async function migrate(
  pool: PgPool,
  list: PackageMigrations,
  options: MigrationOptions = {},
): Promise<MigrationReport> {
  checkPool(pool, 'migrate')
  checkOptionNames(options, ['schema', 'signal'] satisfies (keyof MigrationOptions)[], 'migrate')
  checkPatience({ signal: options.signal })
  const schema = options.schema ?? defaultSchema
  quoteIdentifier(schema, 'schema')
  const { signal } = options
  signal?.throwIfAborted()
  const limit = new Limit({ what: `migrate ${list.package}`, timeoutMs: Number.POSITIVE_INFINITY, signal })
  try {
    const client = await BorrowedClient.from(pool, limit)
    try {
      return await migrateOn(client, list, schema, limit)
    } finally {
      client.giveBack()
    }
  } finally {
    limit.end()
  }
}

async function migrateOn(
  client: BorrowedClient,
  list: PackageMigrations,
  schema: string,
  limit: Limit,
): Promise<MigrationReport> {
  const session: QueryRows = { query: (statement, values) => client.query(statement, values, limit, false) }
  const applied: string[] = []
  for (const migration of list.migrations.map(readMigration)) {
    if (await applyInTurn(client, session, migration, schema, limit)) applied.push(migration.name)
  }
  await checkSchema(session, list, schema)
  const versions = await readVersions(session, [list.package], schema)
  return { applied, version: versions.get(list.package)?.version ?? 0 }
}

/**
 * @throws {SchemaError} SCHEMA_MISSING, SCHEMA_OUTDATED, or SCHEMA_NEWER when the schema is beyond what this code can use
 */
export async function checkSchema(runner: QueryRows, list: PackageMigrations, schema: string): Promise<void> {
  const needed = new Map<string, Migration>()
  for (const migration of list.migrations.map(readMigration)) needed.set(migration.package, migration)
  const found = await readVersions(runner, [...needed.keys()], schema)
  const home = quoteIdentifier(schema, 'schema')
  for (const { package: name, version } of needed.values()) {
    const row = found.get(name)
    if (row === undefined) {
      throw new SchemaError(
        'SCHEMA_MISSING',
        `expected ${name} version ${version} in schema ${home}, got none; ${toMigrate(entryOf(list), schema)}`,
      )
    }
    if (row.version < version) {
      throw new SchemaError(
        'SCHEMA_OUTDATED',
        `expected ${name} version ${version} in schema ${home}, got version ${row.version}; ${toMigrate(entryOf(list), schema)}`,
      )
    }
    if (row.compatibleWith > version) {
      throw new SchemaError(
        'SCHEMA_NEWER',
        `expected ${name} version ${version} in schema ${home}, got version ${row.version}, which works with code from version ${row.compatibleWith} on; deploy a newer version of the package, or apply the down migrations`,
      )
    }
  }
}

/** Tries again as long as others get in the way; true if this call did it. */
async function applyInTurn(
  client: BorrowedClient,
  session: QueryRows,
  migration: Migration,
  schema: string,
  limit: Limit,
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await apply(client, session, migration, schema, limit)
    } catch (error) {
      if (limit.signal?.aborted) throw limit.signal.reason
      if (client.isBroken) throw error
      const grant = await missingGrant(error, session, schema)
      if (grant !== null) throw grant
      // Half a second of these: long enough for a creator to commit, and soon over when the object is somebody else's.
      if (attempt >= 20 || !isCreationRace(error)) throw error
      await delay(Math.random() * 50, undefined, { signal: limit.signal }).catch(() => limit.signal?.throwIfAborted())
    }
  }
}

async function apply(
  client: BorrowedClient,
  session: QueryRows,
  migration: Migration,
  schema: string,
  limit: Limit,
): Promise<boolean> {
  const found = await presence(session, schema)
  if (found.table && (await isApplied(session, migration, schema))) return false
  await client.script('BEGIN ISOLATION LEVEL READ COMMITTED', limit)
  try {
    if (found.table) {
      // Held until COMMIT: of those who come at once one goes on, and the others wait here and then find it done.
      await session.query(claim(schema), [migration.package])
      const rows = await session.query<[number]>(lockVersion(schema), [migration.package])
      if ((rows[0]?.[0] ?? 0) >= migration.version) {
        await client.script('ROLLBACK', limit)
        return false
      }
    }
    await client.script(renderMigration(migration.name, 'up', schema, { schemaExists: found.schema }), limit)
    await client.script('COMMIT', limit)
    return true
  } catch (error) {
    if (!client.isBroken) await client.script('ROLLBACK', limit).catch(() => client.markBroken())
    throw error
  }
}

interface Version {
  readonly version: number
  readonly compatibleWith: number
}

async function readVersions(
  session: QueryRows,
  packages: readonly string[],
  schema: string,
): Promise<Map<string, Version>> {
  try {
    const rows = await session.query<[string, number, number]>(versionsOf(schema), [packages])
    return new Map(rows.map(([name, version, compatibleWith]) => [name, { version, compatibleWith }]))
  } catch (error) {
    const state = sqlStateOf(error)
    if (state === '42P01' || state === '3F000') return new Map()
    throw error
  }
}

async function isApplied(session: QueryRows, migration: Migration, schema: string): Promise<boolean> {
  const versions = await readVersions(session, [migration.package], schema)
  return (versions.get(migration.package)?.version ?? 0) >= migration.version
}

async function presence(session: QueryRows, schema: string): Promise<{ schema: boolean; table: boolean }> {
  const [row] = await session.query<[boolean, boolean]>(presenceOf, [schema])
  return { schema: row?.[0] === true, table: row?.[1] === true }
}

/** Whether the schema and its table of versions are there; asked of the catalog, which needs no right to them. */
const presenceOf: Statement = {
  name: 'schema_presence',
  text: `
    SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
           EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relname = 'schema_versions')`,
}

/** The versions of some packages. */
const versionsOf = (schema: string): Statement => ({
  name: 'schema_versions',
  text: `
    SELECT package, version, compatible_with FROM ${quoteIdentifier(schema, 'schema')}.schema_versions
     WHERE package = ANY ($1::text[])`,
})

/** A row to lock for a package that has none; gone again if the migration fails. */
const claim = (schema: string): Statement => ({
  name: 'schema_claim',
  text: `
    INSERT INTO ${quoteIdentifier(schema, 'schema')}.schema_versions (package, version, compatible_with)
    VALUES ($1, 0, 0) ON CONFLICT (package) DO NOTHING`,
})

/** Locks the package's row and gives its version. */
const lockVersion = (schema: string): Statement => ({
  name: 'schema_lock',
  text: `SELECT version FROM ${quoteIdentifier(schema, 'schema')}.schema_versions WHERE package = $1 FOR UPDATE`,
})

/** Who asks, where, and whether he may create in the schema; false where there is none. */
const whoami: Statement = {
  name: 'schema_whoami',
  text: `
    SELECT current_user, current_database(),
           EXISTS (SELECT FROM pg_namespace WHERE nspname = $1 AND has_schema_privilege(oid, 'CREATE'))`,
}

/** Errors of the one who came second to create something that IF NOT EXISTS did not see yet. */
const raceStates = new Set(['23505', '42P06', '42P07', '42710', '42723', '42701', '40001', '40P01', 'XX000'])

function isCreationRace(error: unknown): boolean {
  const state = sqlStateOf(error)
  return state !== null && raceStates.has(state)
}

async function missingGrant(error: unknown, session: QueryRows, schema: string): Promise<PrivilegeError | null> {
  if (sqlStateOf(error) !== '42501') return null
  const found = await presence(session, schema)
  const [row] = await session.query<[string, string, boolean]>(whoami, [schema])
  const role = quoteIdentifier(row?.[0] ?? 'role')
  // The server's own words: what we say of them in general is said better here.
  const said = error instanceof Error ? (error.cause ?? error) : error
  const message = said instanceof Error ? said.message : String(said)
  const lend = `GRANT coordination_capture TO ${role}`
  const grant = /permission denied to create role/.test(message)
    ? `CREATE ROLE coordination_capture NOLOGIN NOINHERIT; ${lend} (or ALTER ROLE ${role} CREATEROLE)`
    : /permission denied to grant role|admin option on role/.test(message)
      ? lend
      : found.schema
        ? // One that may create there and is refused has to lend the schema to the role of the capture functions.
          `GRANT USAGE, CREATE ON SCHEMA ${quoteIdentifier(schema)} TO ${role}${row?.[2] ? ' WITH GRANT OPTION' : ''}`
        : `GRANT CREATE ON DATABASE ${quoteIdentifier(row?.[1] ?? 'database')} TO ${role}`
  return new PrivilegeError(
    `migrate: expected the right to create what is needed, got: ${message}; run as an administrator ${grant}; or let a role that has the right migrate`,
    { cause: error },
  )
}

const entryOf = (list: PackageMigrations): string => list.entry ?? `@x/${list.package}/migrations`
