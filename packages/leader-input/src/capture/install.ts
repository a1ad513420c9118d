import { setTimeout as delay } from 'node:timers/promises'
import { ConfigurationError, PrivilegeError } from '@x/lock-core'
import { sqlStateOf } from '@x/pg-session'
import { readableTable } from '../backfill/chunk.ts'
import type { Connection, Connections } from '../connections.ts'
import { numberBound } from '../log/number-bound.ts'
import type { LogStatements } from '../log/statements.ts'
import type { ResolvedOptions } from '../options.ts'
import type { CaptureStatements } from './statements.ts'
import { type CapturedTable, findTables } from './tables.ts'
import { readTriggers, triggerChanges, type Union } from './triggers.ts'

/** What `install()` or `uninstall()` did, in words. */
export interface InstallReport {
  readonly created: readonly string[]
  readonly changed: readonly string[]
  readonly removed: readonly string[]
  readonly unchanged: readonly string[]
  /** What works less well than it could, and why. */
  readonly warnings: readonly string[]
}

type Notes = { [K in keyof InstallReport]: string[] }
const nothing = (): Notes => ({ created: [], changed: [], removed: [], unchanged: [], warnings: [] })

/** A lock on a table is waited for this long at a time: those who queue behind us wait as long. */
const lockTimeoutMs = 500
const lockAttempts = 40
/**
 * A table that is in use, a deadlock, and the end of our session: who takes over the lead ends whoever holds the cursor for
 * longer than a leader may, and cannot know that it is an installation that waits for a table.
 */
const passing: ReadonlySet<string> = new Set(['55P03', '40P01', '57P01'])

/** Makes the database as the options want it. Idempotent; safe when many replicas call it at once. */
export async function install(
  connections: Connections,
  statements: CaptureStatements,
  log: LogStatements,
  options: ResolvedOptions,
): Promise<InstallReport> {
  const report = nothing()
  const tables = await connections.use(async (connection) => {
    await refuseUnsafeFunctions(connection, statements, options.schema)
    return findTables(connection, statements, options)
  })
  if (tables.length === 0)
    throw new ConfigurationError('option tables: the patterns match no table', { option: 'tables' })
  if (options.backfillChunk !== null) {
    await connections.use(async (connection) => {
      for (const { location, keyColumns } of tables) await readableTable(connection, location, keyColumns)
    })
  }
  await createCursor(connections, statements, log, options, report)
  for (const table of tables) {
    report.warnings.push(...table.warnings)
    const notes = await underLock(connections, statements, options.schema, async (connection) => {
      const columns = table.wish.columns === null ? null : [...table.wish.columns]
      const values = [options.name, table.location, [...table.wish.operations], columns, options.wakeUps === 'notify']
      const [put] = await connection.rows(statements.putInput, values)
      // In the same transaction, or whoever fails here and tries again would never read the table. Before the table is
      // locked: the batch of a leader holds the cursor first, too.
      if (put?.[0] === 'true' && options.backfillChunk !== null)
        await connection.rows(statements.queueBackfill, [options.name, [table.location]])
      const done = await alignTriggers(connection, statements, table, options.schema)
      const label = `input ${options.name} on ${table.location}`
      if (put === undefined) done.unchanged.push(label)
      else if (put[0] === 'true') done.created.push(label)
      else done.changed.push(label)
      return done
    })
    merge(report, notes)
  }
  const wanted = new Set(tables.map((table) => table.location))
  merge(report, await dropTables(connections, statements, options, (location) => !wanted.has(location)))
  return report
}

/** Takes the input away; what other inputs need of its tables stays. */
export async function uninstall(
  connections: Connections,
  statements: CaptureStatements,
  options: ResolvedOptions,
): Promise<InstallReport> {
  const report = nothing()
  merge(report, await dropTables(connections, statements, options, () => true))
  await connections.transaction(async (connection) => {
    await connection.rows(statements.dropParked, [options.name])
    const [dropped] = await connection.rows(statements.dropCursor, [options.name])
    if (dropped !== undefined) report.removed.push(`cursor ${options.name}`)
  })
  return report
}

async function createCursor(
  connections: Connections,
  statements: CaptureStatements,
  log: LogStatements,
  options: ResolvedOptions,
  report: Notes,
): Promise<void> {
  await connections.use(async (connection) => {
    // Before the triggers: nothing they capture may be behind it.
    const lo = await numberBound(connection, log)
    const { maxRows, maxAgeMs } = options.retention
    const [created] = await connection.rows(statements.createCursor, [options.name, lo, maxRows, maxAgeMs])
    const [changed] = await connection.rows(statements.setRetention, [options.name, maxRows, maxAgeMs])
    const label = `cursor ${options.name}`
    if (created !== undefined) report.created.push(label)
    else if (changed !== undefined) report.changed.push(label)
    else report.unchanged.push(label)
  })
}

async function dropTables(
  connections: Connections,
  statements: CaptureStatements,
  options: ResolvedOptions,
  superfluous: (location: string) => boolean,
): Promise<Notes> {
  const report = nothing()
  const rows = await connections.use((connection) => connection.rows(statements.installed, [options.name]))
  for (const location of rows.map((row) => String(row[0])).filter(superfluous)) {
    const notes = await underLock(connections, statements, options.schema, async (connection) => {
      const [dropped] = await connection.rows(statements.dropInput, [options.name, location])
      const everything = { operations: options.operations, columns: null, schema: null }
      const [table] = await findTables(connection, statements, {
        ...options,
        tables: { kind: 'named', tables: new Map([[location, everything]]) },
      }).catch((error) => {
        // A table that was dropped took its triggers along.
        if (error instanceof ConfigurationError) return []
        throw error
      })
      const done = table === undefined ? nothing() : await alignTriggers(connection, statements, table, options.schema)
      if (dropped !== undefined) done.removed.push(`input ${options.name} on ${location}`)
      return done
    })
    merge(report, notes)
  }
  return report
}

/** Brings the triggers of a table and its partitions to what all inputs together want. */
export async function alignTriggers(
  connection: Connection,
  statements: CaptureStatements,
  table: CapturedTable,
  schema: string,
): Promise<Notes> {
  const union = await readUnion(connection, statements, table.location)
  const parts = (await readTriggers(connection, statements, [table.oid], schema)).get(table.oid) ?? []
  const notes = nothing()
  for (const change of triggerChanges(table, parts, union, schema)) {
    for (const sql of change.sql) await connection.run(sql)
    notes[change.what].push(change.label)
  }
  return notes
}

export async function readUnion(
  connection: Connection,
  statements: CaptureStatements,
  location: string,
): Promise<Union> {
  const [row] = await connection.rows(statements.union, [location])
  const [operations, columns, notify] = (row ?? []) as (string | null)[]
  return {
    operations: new Set((operations ?? '').split(',').filter(Boolean)),
    columns: columns == null ? null : (JSON.parse(columns) as string[]),
    notify: notify === 'true',
  }
}

/** One transaction that holds the installation lock, tried again while the table is busy. */
export async function underLock<T>(
  connections: Pick<Connections, 'transaction'>,
  statements: CaptureStatements,
  schema: string,
  fn: (connection: Connection) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await connections.transaction(async (connection) => {
        await connection.rows(statements.installLock, [schema])
        await connection.run(`SET LOCAL lock_timeout = ${lockTimeoutMs}`)
        return fn(connection)
      })
    } catch (error) {
      if (!passing.has(sqlStateOf(error) ?? '') || attempt >= lockAttempts) throw error
      await delay(Math.random() * lockTimeoutMs)
    }
  }
}

async function refuseUnsafeFunctions(
  connection: Connection,
  statements: CaptureStatements,
  schema: string,
): Promise<void> {
  const [unsafe] = await connection.rows(statements.unsafeFunctions, [schema])
  if (unsafe === undefined) return
  const [fn, owner, reason] = unsafe
  throw new PrivilegeError(
    `capture function ${schema}.${fn}: its owner ${owner} ${reason}, so that owners of captured tables could act with its rights; expected the powerless role coordination_capture: ALTER FUNCTION ${schema}.${fn}() OWNER TO coordination_capture`,
  )
}

function merge(into: Notes, from: Notes): void {
  for (const key of Object.keys(into) as (keyof Notes)[]) into[key].push(...from[key])
}
