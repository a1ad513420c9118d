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
  /** Whatever is installed for the input, one text each, as the statement that moves the cursor has it; null: not known. */
  readonly installed: readonly string[] | null
  /** What is installed and these options leave out: to lead with them would pass over changes that somebody else wants. */
  readonly leftOut: readonly string[]
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
    return { lines: [error.message], newPartitions: [], tables: [], installed: null, leftOut: [] }
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
  const leftOut: string[] = []
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
    const more = String(operations)
      .split(',')
      .filter((operation) => !table.wish.operations.some((each) => each === operation))
    if (more.length > 0) leftOut.push(`${more.join(', ')} of ${table.location}`)
    const union = await readUnion(connection, statements, table.location)
    const changes = triggerChanges(table, parts.get(table.oid) ?? [], union, options.schema).filter(
      ({ what }) => what !== 'unchanged',
    )
    lines.push(...changes.map(explain))
    if (table.partitioned && changes.some(({ what }) => what === 'created')) newPartitions.push(table)
  }
  const notWanted = [...installed.keys()].filter((location) => !tables.some((table) => table.location === location))
  for (const location of notWanted) lines.push(`${location} is installed but not wanted: call install()`)
  // A table that has been dropped, or has become a partition, is wanted by nobody.
  if (notWanted.length > 0) {
    leftOut.push(...(await connection.rows(statements.capturable, [notWanted])).map(([location]) => String(location)))
  }
  return {
    lines,
    newPartitions,
    tables,
    installed: [...installed].map(([location, [operations]]) => `${location} ${operations}`),
    leftOut,
  }
}

const explanations = {
  created: 'is missing: changes are lost until install() puts it back',
  changed: 'is disabled or not as it should be (a key column was renamed, a setting changed): call install()',
  removed: 'is not needed any more: call install()',
} as const

function explain({ what, label }: TriggerChange): string {
  return what === 'unchanged' ? label : `${label} ${explanations[what]}`
}
