import { ConfigurationError } from '@x/lock-core'
import type { Connection } from '../connections.ts'
import type { TableWish, TableWishes } from '../options.ts'
import type { CaptureStatements } from './statements.ts'

/** A table that is followed, as the catalog has it. */
export interface CapturedTable {
  readonly oid: string
  /** Schema and name, as it stands in the log. */
  readonly location: string
  /** The name by which the options and the events call it. */
  readonly name: string
  readonly wish: TableWish
  readonly partitioned: boolean
  readonly keyColumns: readonly string[]
  /** Why rows are captured one by one; '' for statement triggers. */
  readonly rowLevel: string
  readonly warnings: readonly string[]
}

/**
 * Finds the tables that the options mean.
 * @throws {ConfigurationError} for a table that does not exist or cannot be captured
 */
export async function findTables(
  connection: Connection,
  statements: CaptureStatements,
  options: { readonly tables: TableWishes; readonly operations: TableWish['operations']; readonly schema: string },
): Promise<CapturedTable[]> {
  const { tables: wishes } = options
  const names = wishes.kind === 'named' ? [...wishes.tables.keys()] : []
  const patterns = wishes.kind === 'patterns' ? wishes.patterns.map(likePattern) : []
  const rows = await connection.rows(statements.tables, [names, patterns, options.schema])
  const everything: TableWish = { operations: options.operations, columns: null, schema: null }
  const found = new Map<string, CapturedTable>()
  for (const row of rows) {
    const [
      name = null,
      oid,
      schema,
      relname,
      kind,
      persistence,
      keys,
      deferrable,
      rowLevel,
      foreignPart,
      children,
      visible,
      partition,
    ] = row as (string | null)[]
    const location = `${schema}.${relname}`
    const known = [...found.values()].find((table) => table.name === name)
    if (name !== null && known !== undefined) {
      throw new ConfigurationError(
        `option tables: ${quote(name)} means both ${known.location} and ${location}; name it with its schema`,
        { option: 'tables' },
      )
    }
    refuseUnlessCapturable({
      location,
      kind: kind ?? '',
      persistence: persistence ?? '',
      foreignPart: foreignPart ?? null,
      partition: partition === 'true',
    })
    found.set(location, {
      oid: oid ?? '',
      location,
      name: name ?? (visible === 'true' ? (relname ?? '') : location),
      wish: (wishes.kind === 'named' ? wishes.tables.get(name ?? '') : undefined) ?? everything,
      partitioned: kind === 'p',
      keyColumns: keys === '' || keys == null ? [] : keys.split('\u0001'),
      rowLevel: rowLevel ?? '',
      warnings: [
        ...(keys
          ? []
          : [`${location} has no key: its events have no id, and one that is parked holds back the whole table`]),
        ...(deferrable === 'true'
          ? [`${location} has a deferrable key: changes of one key may come out of order within a transaction`]
          : []),
        ...(children
          ? [`${location} has children (${children}): their rows are captured only if they are named too`]
          : []),
      ],
    })
  }
  const missing = names.filter((name) => ![...found.values()].some((table) => table.name === name))
  if (missing.length > 0) {
    throw new ConfigurationError(
      `option tables: no table ${missing.map(quote).join(', ')}; create it first, or name it with its schema`,
      { option: 'tables' },
    )
  }
  return [...found.values()]
}

const kinds: Readonly<Record<string, string>> = { f: 'a foreign table', v: 'a view', m: 'a materialized view' }

function refuseUnlessCapturable(table: {
  location: string
  kind: string
  persistence: string
  foreignPart: string | null
  partition: boolean
}): void {
  const refuse = (reason: string): never => {
    throw new ConfigurationError(`option tables: ${table.location} cannot be captured: ${reason}`, { option: 'tables' })
  }
  const kind = kinds[table.kind]
  if (kind !== undefined) refuse(`it is ${kind}; name the ordinary table behind it`)
  if (table.persistence === 'u')
    refuse('it is unlogged, so a crash empties it without a change to capture; ALTER TABLE … SET LOGGED first')
  if (table.persistence === 't') refuse('it is temporary: no other session sees it')
  if (table.foreignPart !== null)
    refuse(`its partition ${table.foreignPart} is a foreign table, and even the writer's statement would fail`)
  if (table.partition) refuse('it is a partition; name the table that it is a part of')
}

/** `public.*` as a LIKE pattern; only the star is special. */
function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')
}

const quote = (name: string): string => JSON.stringify(name)
