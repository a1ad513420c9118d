import { quoteIdentifier, quoteLiteral } from '@x/pg-session'
import type { Connection } from '../connections.ts'
import type { CaptureStatements } from './statements.ts'
import type { CapturedTable } from './tables.ts'

/** What all inputs together want of one table. */
export interface Union {
  readonly operations: ReadonlySet<string>
  /** Null for all columns. */
  readonly columns: readonly string[] | null
  readonly notify: boolean
}

/** One capture trigger, as it should be or as it is. */
interface Trigger {
  readonly relationOid: string
  /** Quoted, for SQL. */
  readonly relation: string
  readonly name: string
  /** Function, event, level and arguments in one line, equal for equal triggers. */
  readonly definition: string
  /** Null for one that exists. */
  readonly create: string | null
}

/** The largest row that is captured whole; of a larger one only the key is. The capture functions have the same number. */
export const largestRowBytes = 524_288

/** How our triggers are called. They fire in the order of names, so ours come before the user's. */
export const triggerPrefix = (schema: string): string => `0_${schema}_`.slice(0, 50)

export const notifyChannel = (schema: string): string => `${schema}_changes`.slice(0, 60)

/** TRIGGER_TYPE_* of the server: row 1, before 2, insert 4, delete 8, update 16, truncate 32. */
const typeBits = { create: 4, delete: 8, update: 16, truncate: 32 } as const
const sqlEvent = { create: 'INSERT', delete: 'DELETE', update: 'UPDATE', truncate: 'TRUNCATE' } as const
const transition = {
  create: 'REFERENCING NEW TABLE AS new_rows ',
  update: 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ',
  delete: 'REFERENCING OLD TABLE AS old_rows ',
  truncate: '',
} as const

/** The triggers that a relation, or one of its partitions, must carry. */
function wantedTriggers(
  table: CapturedTable,
  part: { readonly oid: string; readonly relation: string },
  union: Union,
  schema: string,
): Trigger[] {
  const prefix = triggerPrefix(schema)
  const isRoot = part.oid === table.oid
  const triggers: Trigger[] = []
  const add = (name: string, fn: string, type: number, clause: string, args: readonly string[]): void => {
    triggers.push({
      relationOid: part.oid,
      relation: part.relation,
      name,
      definition: describe(fn, type, args),
      create: `CREATE OR REPLACE TRIGGER ${quoteIdentifier(name)} ${clause} EXECUTE FUNCTION ${quoteIdentifier(schema)}.${fn}(${args.map(quoteLiteral).join(', ')})`,
    })
  }
  const source = [table.location, ...table.keyColumns]
  for (const operation of ['create', 'update', 'delete', 'truncate'] as const) {
    if (!union.operations.has(operation)) continue
    const event = sqlEvent[operation]
    const byRow = table.rowLevel !== '' && operation !== 'truncate'
    // Partitions get their triggers for rows from the root, future ones too.
    if (byRow && !isRoot) continue
    const [fn, args] =
      union.columns === null || operation === 'truncate'
        ? [byRow ? 'capture_row' : `capture_${event.toLowerCase()}`, source]
        : ['capture_columns', [...source, '', ...union.columns]]
    add(
      prefix + operation,
      fn,
      typeBits[operation] | (byRow ? 1 : 0),
      `AFTER ${event} ON ${part.relation} ${byRow ? 'FOR EACH ROW' : `${transition[operation]}FOR EACH STATEMENT`}`,
      args,
    )
  }
  if (union.notify) {
    add(
      `${prefix}notify`,
      'capture_notify',
      60,
      `AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${part.relation} FOR EACH STATEMENT`,
      [notifyChannel(schema)],
    )
  }
  return triggers
}

function describe(fn: string, type: number, args: readonly string[]): string {
  return [fn, type, ...args].join('\u0001')
}

/** A table or one of its partitions, with the capture triggers that it has. */
export interface Part {
  readonly oid: string
  readonly relation: string
  readonly isForeign: boolean
  readonly triggers: readonly (Trigger & { readonly always: boolean })[]
}

/** What is there, by oid of the root. */
export async function readTriggers(
  connection: Connection,
  statements: CaptureStatements,
  oids: readonly string[],
  schema: string,
): Promise<Map<string, Part[]>> {
  const like = `${triggerPrefix(schema).replace(/[\\%_]/g, '\\$&')}%`
  const rows = await connection.rows(statements.triggers, [oids, like, schema])
  const roots = new Map<string, Map<string, Part & { triggers: (Trigger & { always: boolean })[] }>>()
  for (const row of rows) {
    const [root, oid, relation, kind, name, fn, type, args, enabled, cloned] = row as (string | null)[]
    if (root == null || oid == null || relation == null) continue
    const parts = roots.get(root) ?? new Map()
    roots.set(root, parts)
    const part = parts.get(oid) ?? { oid, relation, isForeign: kind === 'f', triggers: [] }
    parts.set(oid, part)
    if (name == null || cloned === 'true') continue
    const texts = Buffer.from(args ?? '', 'hex')
      .toString('utf8')
      .split('\0')
      .slice(0, -1)
    part.triggers.push({
      relationOid: oid,
      relation,
      name,
      definition: describe(fn ?? '', Number(type), texts),
      create: null,
      always: enabled === 'A',
    })
  }
  return new Map([...roots].map(([root, parts]) => [root, [...parts.values()]]))
}

/** What has to be done so that a table carries the triggers it should. */
export interface TriggerChange {
  readonly what: 'created' | 'changed' | 'removed' | 'unchanged'
  readonly label: string
  readonly sql: readonly string[]
}

/** Compares a table's triggers with what they should be. */
export function triggerChanges(
  table: CapturedTable,
  parts: readonly Part[],
  union: Union,
  schema: string,
): TriggerChange[] {
  return parts.flatMap((part) => {
    const wanted = wantedTriggers(table, part, union, schema)
    const changes = wanted.map((trigger): TriggerChange => {
      const name = quoteIdentifier(trigger.name)
      const label = `trigger ${trigger.name} on ${part.relation}`
      const actual = part.triggers.find((candidate) => candidate.name === trigger.name)
      // session_replication_role = replica skips triggers that are not ALWAYS.
      const always = `ALTER TABLE ${part.relation} ENABLE ALWAYS TRIGGER ${name}`
      if (actual === undefined) return { what: 'created', label, sql: [trigger.create ?? '', always] }
      if (actual.definition !== trigger.definition) {
        // Replacing does not turn a trigger for statements into one for rows.
        return {
          what: 'changed',
          label,
          sql: [`DROP TRIGGER ${name} ON ${part.relation}`, trigger.create ?? '', always],
        }
      }
      return actual.always ? { what: 'unchanged', label, sql: [] } : { what: 'changed', label, sql: [always] }
    })
    const surplus = part.triggers.filter((actual) => !wanted.some((trigger) => trigger.name === actual.name))
    return [
      ...changes,
      ...surplus.map(
        (actual): TriggerChange => ({
          what: 'removed',
          label: `trigger ${actual.name} on ${part.relation}`,
          sql: [`DROP TRIGGER ${quoteIdentifier(actual.name)} ON ${part.relation}`],
        }),
      ),
    ]
  })
}
