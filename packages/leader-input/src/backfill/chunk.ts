import { ConfigurationError } from '@x/lock-core'
import { quoteIdentifier, quoteLiteral } from '@x/pg-session'
import { largestRowBytes } from '../capture/triggers.ts'
import { type Connection, pageTimeoutMs } from '../connection.ts'
import type { LoggedChange } from '../event.ts'
import type { Probe } from '../log/reader.ts'
import { drawn } from '../log/statements.ts'
import { parseSnapshot } from '../log/window.ts'
import { keyOf, rowOf } from '../logged-row.ts'

/** A table as a backfill reads it. */
export interface ReadableTable {
  readonly schema: string
  readonly name: string
  readonly location: string
  readonly partitioned: boolean
  /** In the order of the key; empty for a table without one, which is read in one chunk. */
  readonly key: readonly { readonly column: string; readonly type: string }[]
}

/** Some rows, and the snapshot in which they were read. */
export interface Chunk {
  readonly rows: readonly LoggedChange[]
  /** Key of each row, as text, in the order of the key's columns. */
  readonly keys: readonly (readonly string[])[]
  readonly seen: Probe
  /** Whether these are the table's last rows. */
  readonly last: boolean
}

/** Larger tables without a key are refused: they are read as one chunk. */
const keylessLimitBytes = 67_108_864

/**
 * Text that is the same whoever reads: as in the capture functions. And nothing of the table's owner runs with our rights:
 * operators come from pg_catalog only, policies that would hide rows are an error.
 */
const settings = `
  BEGIN READ ONLY;
  SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY';
  SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL intervalstyle = 'postgres'`

/** Reads the next rows of a table in the order of its key, and the statement's own snapshot with them. */
export async function readChunk(
  connection: Connection,
  table: ReadableTable,
  after: readonly string[] | null,
  options: { readonly schema: string; readonly rows: number; readonly bytes: number },
): Promise<Chunk> {
  await connection.run(settings)
  try {
    const limit = table.key.length === 0 ? null : options.rows
    // Without a key there is no place to go on from: all of the table, which is bounded by `keylessLimitBytes`.
    const bytes = limit === null ? Number.MAX_SAFE_INTEGER : options.bytes
    const values = [...(after ?? []), limit, bytes]
    const rows = await connection.rows(
      { name: '', text: chunkSql(table, after !== null, options.schema) },
      values,
      pageTimeoutMs,
    )
    const found = rows.filter((row) => row[2] !== null)
    const seen = { snapshot: parseSnapshot(String(rows[0]?.[0])), lastNumber: BigInt(String(rows[0]?.[1])) }
    const total = Number(found[0]?.[4] ?? 0)
    const columns = table.key.map(({ column }) => column)
    return {
      seen,
      keys: found.map((row) => JSON.parse(String(row[3])) as string[]),
      rows: found.map((row) => ({
        seq: seen.lastNumber,
        xid: 0n,
        location: table.location,
        operation: 'read' as const,
        key: keyOf(String(row[2]), columns),
        oldKey: null,
        before: null,
        after: rowOf(String(row[2])),
        atMicros: String(row[5]),
      })),
      last: limit === null || (total < limit && found.length === total),
    }
  } finally {
    await connection.run('COMMIT')
  }
}

function chunkSql({ schema, name, partitioned, key }: ReadableTable, resumed: boolean, home: string): string {
  const columns = key.map(({ column }) => `t.${quoteIdentifier(column)}`)
  const [limitAt, bytesAt] = resumed ? [key.length + 1, key.length + 2] : [1, 2]
  const behind = key.map(({ type }, i) => `$${i + 1}::text::${type}`)
  const keyAlone = key.map(({ column }, i) => `${quoteLiteral(column)}, ${columns[i]}`)
  return `
    SELECT s.snapshot::text, s.drawn, c.row, c.position, c.total::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text
      FROM (SELECT pg_current_snapshot() AS snapshot, (SELECT ${drawn} FROM ${quoteIdentifier(home)}.changes_seq_seq) AS drawn) s
      LEFT JOIN LATERAL (
        SELECT r.*, sum(octet_length(r.row)) OVER (ORDER BY r.place) AS bytes, count(*) OVER () AS total
          FROM (
            SELECT row_number() OVER (${columns.length > 0 ? `ORDER BY ${columns.join(', ')}` : ''}) AS place,
                   CASE WHEN pg_column_size(t.*) <= ${largestRowBytes} THEN to_json(t.*)
                        ELSE json_build_array(${keyAlone.length > 0 ? `json_build_object(${keyAlone.join(', ')})` : 'NULL'}) END::text AS row,
                   ${columns.length > 0 ? `json_build_array(${columns.map((column) => `${column}::text`).join(', ')})::text` : "'[]'"} AS position
              FROM ${partitioned ? '' : 'ONLY '}${quoteIdentifier(schema)}.${quoteIdentifier(name)} t
             ${resumed ? `WHERE (${columns.join(', ')}) > (${behind.join(', ')})` : ''}
             ${columns.length > 0 ? `ORDER BY ${columns.join(', ')}` : ''} LIMIT $${limitAt}::bigint
          ) r
      ) c ON c.bytes <= $${bytesAt}::bigint OR c.place = 1
     ORDER BY c.place`
}

/** What the catalog says of a table that is to be read. Parameters: location. */
const readableSql = `
  SELECT n.nspname, c.relname, c.relkind = 'p', pg_table_size(c.oid)::text,
         (SELECT min(a.attname) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            JOIN pg_cast k ON k.casttarget = 'json'::regtype AND k.castmethod = 'f' AND k.castsource IN (t.oid, t.typbasetype, t.typelem)
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND k.oid >= 16384),
         a.attname,
         -- Without -1 a bpchar would be character(1). An enum by its full name, because nothing but pg_catalog is in the path.
         CASE WHEN b.typtype = 'e' THEN quote_ident(bn.nspname) || '.' || quote_ident(b.typname) ELSE format_type(b.oid, -1) END,
         b.oid >= 16384 AND b.typtype <> 'e'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN unnest($2::text[]) WITH ORDINALITY AS k (name, place) ON true
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    -- A cast to a domain would run its owner's constraints; its base type compares alike.
    LEFT JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    LEFT JOIN pg_namespace bn ON bn.oid = b.typnamespace
   WHERE n.nspname || '.' || c.relname = $1 ORDER BY k.place`

/**
 * Looks whether, and how, a table can be read.
 * @throws {ConfigurationError} when it cannot be read safely, or not in bounded memory
 */
export async function readableTable(
  connection: Connection,
  location: string,
  keyColumns: readonly string[],
): Promise<ReadableTable> {
  const rows = await connection.rows({ name: 'input_readable', text: readableSql }, [location, keyColumns])
  const [schema, name, partitioned, size, castColumn] = rows[0] ?? []
  const refuse = (reason: string): never => {
    throw new ConfigurationError(`option backfill: ${location} cannot be read: ${reason}`, { option: 'backfill' })
  }
  if (rows.length === 0) refuse('it does not exist')
  if (castColumn != null)
    refuse(`column ${castColumn} has a cast to json of its own, whose function would run with the rights of the input`)
  if (keyColumns.length === 0 && Number(size) > keylessLimitBytes)
    refuse(`it has no key and more than ${keylessLimitBytes} bytes; add a primary key`)
  const foreignType = rows.find((row) => row[7] === true)
  if (foreignType !== undefined)
    refuse(`its key column ${foreignType[5]} is of type ${foreignType[6]}, whose operators are not the server's own`)
  return {
    schema: String(schema),
    name: String(name),
    location,
    partitioned: partitioned === true,
    key: keyColumns.length === 0 ? [] : rows.map((row) => ({ column: String(row[5]), type: String(row[6]) })),
  }
}
