import { quoteIdentifier, quoteLiteral } from './identifiers.ts'
import { migrationFiles } from './migration-files.ts'

/** One file of `migrations/`. */
export interface Migration {
  /** File name without `.up.sql`. */
  readonly name: string
  /** What it records in `schema_versions`. */
  readonly package: string
  readonly version: number
  /** The oldest version of the code that works with the schema after it. */
  readonly compatibleWith: number
}

/** The statement by which each file records itself: the one place where its version stands. */
const record =
  /INSERT INTO :"schema"\.schema_versions\b[^;]*?VALUES\s*\(\s*'(?<name>[a-z0-9-]+)'\s*,\s*(?<version>\d+)\s*,\s*(?<compatibleWith>\d+)\s*\)/

/** @throws {TypeError} for a file that is not there or does not record itself: a mistake in this repository */
export function readMigration(name: string): Migration {
  const found = record.exec(fileOf(name, 'up'))?.groups
  if (found?.name === undefined) {
    throw new TypeError(`migrations/${name}.up.sql: expected it to end with an INSERT INTO :"schema".schema_versions`)
  }
  return {
    name,
    package: found.name,
    version: Number(found.version),
    compatibleWith: Number(found.compatibleWith),
  }
}

/**
 * The SQL of a file as psql would send it: without its meta-commands, and with the schema's name for its variable.
 *
 * @param schemaExists leaves CREATE SCHEMA out, which asks for a right on the database even where there is nothing to do
 */
export function renderMigration(
  name: string,
  direction: 'up' | 'down',
  schema: string,
  { schemaExists = false }: { schemaExists?: boolean } = {},
): string {
  return fileOf(name, direction)
    .split('\n')
    .filter((line) => !/^\s*\\/.test(line) && !(schemaExists && line.startsWith('CREATE SCHEMA IF NOT EXISTS')))
    .join('\n')
    .replaceAll(':"schema"', () => quoteIdentifier(schema, 'schema'))
    .replaceAll(":'schema'", () => quoteLiteral(schema))
}

function fileOf(name: string, direction: 'up' | 'down'): string {
  const file = `${name}.${direction}.sql`
  const sql = migrationFiles[file]
  if (sql === undefined) throw new TypeError(`migrations/${file} is not there`)
  return sql
}
