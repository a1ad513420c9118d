import { ConfigurationError } from '@x/lock-core'
import type { Connection } from '../connections.ts'
import type { ResolvedOptions } from '../options.ts'
import { readUnion } from './install.ts'
import type { CaptureStatements } from './statements.ts'
import { type CapturedTable, findTables } from './tables.ts'
import { readTriggers, type TriggerChange, triggerChanges } from './triggers.ts'

/** How capture differs from what the options want. */
export interface Drift {
  /** One line each, with what to do. */
  readonly lines: readonly string[]
  /** Tables whose missing triggers on partitions the leader may add by itself. */
  readonly newPartitions: readonly CapturedTable[]
  readonly tables: readonly CapturedTable[]
}

/** As `findDrift`; a table that has gone is drift too, and the others are looked at by whoever comes next. */
export async function findDriftWhileRunning(
  connection: Connection,
  statements: CaptureStatements,
  options: ResolvedOptions,
): Promise<Drift> {
  try {
    return await findDrift(connection, statements, options)
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    return { lines: [error.message], newPartitions: [], tables: [] }
  }
}

/** Compares the catalog with the options. Reads only. */
export async function findDrift(
  connection: Connection,
  statements: CaptureStatements,
  options: ResolvedOptions,
): Promise<Drift> {
  const tables = await findTables(connection, statements, options)
  const installed = new Map(
    (await connection.rows(statements.installed, [options.name])).map((row) => [String(row[0]), row.slice(1)] as const),
  )
  const parts = await readTriggers(
    connection,
    statements,
    tables.map((table) => table.oid),
    options.schema,
  )
  const lines: string[] = []
  const newPartitions: CapturedTable[] = []
  for (const table of tables) {
    const wish = installed.get(table.location)
    if (wish === undefined) {
      lines.push(`${table.location} is wanted but not installed: call install()`)
      continue
    }
    const [operations, columns] = wish
    const wanted = table.wish.columns === null ? null : JSON.stringify(table.wish.columns)
    if (operations !== table.wish.operations.join(',') || (columns ?? null) !== wanted) {
      lines.push(
        `${table.location} is installed with other operations or columns than the options have: call install()`,
      )
    }
    const union = await readUnion(connection, statements, table.location)
    const changes = triggerChanges(table, parts.get(table.oid) ?? [], union, options.schema).filter(
      ({ what }) => what !== 'unchanged',
    )
    lines.push(...changes.map(explain))
    if (table.partitioned && changes.some(({ what }) => what === 'created')) newPartitions.push(table)
  }
  for (const location of installed.keys()) {
    if (!tables.some((table) => table.location === location))
      lines.push(`${location} is installed but not wanted: call install()`)
  }
  return { lines, newPartitions, tables }
}

const explanations = {
  created: 'is missing: changes are lost until install() puts it back',
  changed: 'is disabled or not as it should be (a key column was renamed, a setting changed): call install()',
  removed: 'is not needed any more: call install()',
} as const

function explain({ what, label }: TriggerChange): string {
  return what === 'unchanged' ? label : `${label} ${explanations[what]}`
}
