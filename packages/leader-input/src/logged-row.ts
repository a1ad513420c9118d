/**
 * What the log holds of a row: its text as an object or, when it was too large, an array with its key alone. The key of a row
 * is taken out of it here and not by the trigger, at the cost of whoever reads it and not of whoever writes.
 */

/** What a trigger was told, and wrote into each change: the table, and the columns that were its key then. */
export interface Source {
  readonly location: string
  readonly keyColumns: readonly string[]
}

/** From the text of the array in the log. */
export function parseSource(text: string): Source {
  const [location = '', ...keyColumns] = Array.from(
    text.slice(text.indexOf('=') + 1).matchAll(/"((?:[^"\\]|\\.)*)"|[^{},"]+/g),
    ([bare, quoted]) => quoted?.replace(/\\(.)/gs, '$1') ?? bare,
  )
  return { location, keyColumns }
}

/** The row's text; null for one that was too large, and where there is none. */
export function rowOf(document: string | null): string | null {
  return document?.startsWith('{') === true ? document : null
}

/** The key as the text of an object; null without a key, and when a column of it is missing or null. */
export function keyOf(document: string | null, columns: readonly string[]): string | null {
  const [first] = columns
  if (document === null || first === undefined) return null
  if (columns.length === 1 && document.startsWith('{')) {
    // Mostly the key is one column, and the first.
    const name = `{${JSON.stringify(first)}:`
    if (document.startsWith(name)) {
      const end = plainEnd(document, name.length)
      if (end !== null) return `${document.slice(0, end)}}`
    }
  }
  const fields = fieldsOf(document.startsWith('[') ? document.slice(1, -1) : document, columns)
  if (fields.length < columns.length || fields.some((field) => field === 'null')) return null
  return `{${columns.map((column, i) => `${JSON.stringify(column)}:${fields[i] ?? ''}`).join(',')}}`
}

/** Where a number ends that begins here, or a string without escapes; null for any other value. */
function plainEnd(text: string, from: number): number | null {
  const first = text.charAt(from)
  if (first === '"') {
    const end = text.indexOf('"', from + 1)
    return text.slice(from, end).includes('\\') ? null : end + 1
  }
  if (first !== '-' && !(first >= '0' && first <= '9')) return null
  const comma = text.indexOf(',', from)
  return comma === -1 ? text.length - 1 : comma
}

/** Strings, brackets, and what separates the fields of an object. */
const mark = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]/gs

/** The texts of some fields of an object, as they stand there; fewer when one is missing. */
function fieldsOf(object: string, names: readonly string[]): string[] {
  const found = new Map(names.map((name): [string, string | null] => [JSON.stringify(name), null]))
  let depth = 0
  let name: string | null = null
  let from = 0
  for (const { 0: token, index } of object.matchAll(mark)) {
    const ends = depth === 1 && (token === ',' || token === '}')
    if (ends && name !== null && found.has(name)) found.set(name, object.slice(from, index).trim())
    if (token === '{' || token === '[') depth += 1
    else if (token === '}' || token === ']') depth -= 1
    else if (depth === 1 && token === ':') from = index + 1
    else if (depth === 1 && name === null) name = token
    if (ends) name = null
  }
  return [...found.values()].filter((text) => text !== null)
}
