import type { JsonValue } from './change-event.ts'

/** A row as it comes out of JSON. */
export type JsonObject = { readonly [column: string]: JsonValue }

/** How the JSON text of a table's rows becomes objects without rounding anything. */
export interface RowFormat {
  parse(text: string): JsonObject
}

/**
 * The columns whose numbers stay text (bigint, numeric, and arrays and domains over them), as the driver gives them.
 * @param flat no column holds arrays, composites or JSON, in which the names of columns could come again
 */
export function rowFormat(exact: readonly string[], flat: boolean): RowFormat {
  const columns: ReadonlySet<string> = new Set(exact)
  if (!flat) return { parse: exact.length === 0 ? parseExact : (text) => parseColumns(text, columns) }
  const fields = exact.map((column) => ({ column, name: `${JSON.stringify(column)}:` }))
  return {
    parse(text) {
      const row: { [column: string]: JsonValue } = parseBoundary(text)
      // Not flat any more, or a digit is lost: the table was altered, or the number is one that the columns say nothing of.
      for (const column in row) if (mayBeRounded(row[column], columns, column)) return parseColumns(text, columns)
      let from = 0
      for (const { column, name } of fields) {
        if (typeof row[column] !== 'number') continue
        const at = valueAt(text, name, from)
        if (at === -1) return parseColumns(text, columns)
        const comma = text.indexOf(',', at)
        row[column] = text.slice(at, comma === -1 ? -1 : comma)
        from = at
      }
      return row
    },
  }
}

function mayBeRounded(value: JsonValue | undefined, exact: ReadonlySet<string>, column: string): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && !Number.isSafeInteger(value) && !exact.has(column)
  return typeof value === 'object' && value !== null
}

/**
 * Where the value of a field begins; -1 when the field is not found. Inside of a value its quotes would be escaped; only the
 * name of another field can end like this one.
 */
function valueAt(text: string, name: string, from: number): number {
  for (let at = text.indexOf(name, from); at !== -1; at = text.indexOf(name, at + 1)) {
    const before = text.charAt(at - 1)
    if (before === '{' || before === ',') return at + name.length
  }
  // The columns of an altered table may come in another order.
  return from === 0 ? -1 : valueAt(text, name, 0)
}

/** Sixteen digits in a row, anywhere: the text may hold an integer that a number cannot. */
const manyDigits = /[0-9]{16}/

/** JSON in which integers that a number cannot hold come as strings. */
export function parseExact(text: string): JsonObject {
  return manyDigits.test(text) ? parseColumns(text, none) : parseBoundary(text)
}

const none: ReadonlySet<string> = new Set()

function parseColumns(text: string, columns: ReadonlySet<string>): JsonObject {
  // By the object or array that holds them. Which of the holders is the row itself is known only at the end.
  const sources = new Map<unknown, Map<string, string>>()
  const root = parseBoundary(text, function (this: unknown, key, value, context) {
    const source = context?.source
    if (typeof value !== 'number' || source === undefined) return value
    if (Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?[0-9]+$/.test(source)) return source
    if (columns.has(key) || Array.isArray(this)) {
      const known = sources.get(this) ?? new Map<string, string>()
      sources.set(this, known.set(key, source))
    }
    return value
  })
  const asText = (holder: unknown, key: string, value: JsonValue): JsonValue => {
    if (typeof value === 'number') return sources.get(holder)?.get(key) ?? value
    return Array.isArray(value) ? value.map((element, i) => asText(value, String(i), element)) : value
  }
  const row: { [column: string]: JsonValue } = { ...root }
  for (const column of columns) {
    const value = Object.hasOwn(root, column) ? root[column] : undefined
    if (value !== undefined) row[column] = asText(root, column, value)
  }
  return row
}

type Reviver = (this: unknown, key: string, value: unknown, context?: { readonly source?: string }) => unknown

/** The text is `to_json` of a row, or a key: an object. The compiler does not know of the reviver's third argument yet. */
function parseBoundary(text: string, reviver?: Reviver): JsonObject {
  return JSON.parse(text, reviver as Parameters<typeof JSON.parse>[1]) as JsonObject
}
