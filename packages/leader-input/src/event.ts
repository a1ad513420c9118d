import { inspect } from 'node:util'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { QueryError } from '@x/lock-core'
import type { JsonValue, Operation } from './change-event.ts'
import { type JsonObject, parseExact, type RowFormat } from './row-format.ts'

/** A row of the log, all of it text: nothing is rounded on the way. */
export interface LoggedChange {
  readonly seq: bigint
  readonly xid: bigint
  readonly location: string
  readonly operation: Operation
  readonly key: string | null
  readonly oldKey: string | null
  readonly before: string | null
  readonly after: string | null
  /** Microseconds since 1970. */
  readonly atMicros: string
}

/** What a reader knows of a table that it follows. */
export interface FollowedTable {
  readonly name: string
  readonly location: string
  readonly operations: ReadonlySet<string>
  readonly columns: ReadonlySet<string> | null
  readonly schema: StandardSchemaV1<unknown, unknown> | null
  readonly format: RowFormat
}

/** A change as the handler sees it. Whatever takes time is done when it is looked at: many handlers look at little. */
export class FeedEvent {
  readonly input: string
  /** The row of the log behind the event. */
  readonly logged: LoggedChange
  readonly trigger: string
  readonly #followed: FollowedTable
  readonly #keySuffix: string | undefined
  #before: JsonObject | null | undefined
  #after: JsonObject | null | undefined
  #key: JsonObject | null | undefined
  #isValid = false

  constructor(input: string, logged: LoggedChange, followed: FollowedTable, trigger: string, keySuffix?: string) {
    this.input = input
    this.logged = logged
    this.trigger = trigger
    this.#followed = followed
    this.#keySuffix = keySuffix
  }

  get table(): string {
    return this.#followed.name
  }

  get location(): string {
    return this.logged.location
  }

  get operation(): Operation {
    return this.logged.operation
  }

  get seq(): bigint {
    return this.logged.seq
  }

  get xid(): bigint {
    return this.logged.xid
  }

  /** What the idempotency key says besides the input. */
  get keySuffix(): string {
    return this.#keySuffix ?? `${this.logged.seq}:${this.logged.atMicros}`
  }

  /** Whether the table has a schema that the rows have not been through. */
  get isToBeValidated(): boolean {
    return this.#followed.schema !== null && !this.#isValid
  }

  get before(): JsonObject | null {
    if (this.#before === undefined) this.#before = this.#row(this.logged.before)
    return this.#before
  }

  get after(): JsonObject | null {
    if (this.#after === undefined) this.#after = this.#row(this.logged.after)
    return this.#after
  }

  get at(): Date {
    return new Date(Number(this.logged.atMicros) / 1_000)
  }

  get idempotencyKey(): string {
    return `${this.input}:${this.keySuffix}`
  }

  get key(): JsonObject | null {
    if (this.#key === undefined) this.#key = this.#parseKey(this.logged.key)
    return this.#key
  }

  get oldKey(): JsonObject | null {
    return this.#parseKey(this.logged.oldKey)
  }

  get id(): string | null {
    return idOf(this.logged.key)
  }

  get oversize(): boolean {
    const { operation, before, after } = this.logged
    if (operation === 'truncate') return false
    return (
      (operation !== 'delete' && after === null) ||
      ((operation === 'update' || operation === 'delete') && before === null)
    )
  }

  get changed(): readonly string[] {
    const { before, after } = this
    if (before === null || after === null) return Object.keys(after ?? before ?? {})
    const names = new Set([...Object.keys(before), ...Object.keys(after)])
    return [...names].filter((name) => !same(before[name], after[name]))
  }

  toRoute(): { location: string; operation: Operation; id: string; trigger: string } {
    return { location: this.location, operation: this.operation, id: this.id ?? '', trigger: this.trigger }
  }

  static {
    // For console.log(): most of an event is in getters. A computed name in the class itself has no type that is declared.
    Object.defineProperty(FeedEvent.prototype, inspect.custom, {
      value(this: FeedEvent) {
        return this.toJSON()
      },
    })
  }

  /** Loses nothing: bigints come as strings. */
  toJSON(): object {
    const {
      input,
      table,
      location,
      operation,
      seq,
      xid,
      at,
      idempotencyKey,
      trigger,
      id,
      key,
      oldKey,
      changed,
      oversize,
      before,
      after,
    } = this
    return {
      input,
      table,
      location,
      operation,
      seq: String(seq),
      xid: String(xid),
      at,
      idempotencyKey,
      trigger,
      id,
      key,
      oldKey,
      changed,
      oversize,
      before,
      after,
    }
  }

  /**
   * Parses the rows with the table's schema, where there is one; once, because what came out need not fit in again.
   * @throws {QueryError} with the schema's issues, for the failure policy
   */
  async validate(): Promise<void> {
    const { schema } = this.#followed
    if (schema === null || this.#isValid) return
    const before = await parsed(schema, this.before, this)
    this.#after = await parsed(schema, this.after, this)
    this.#before = before
    this.#isValid = true
  }

  #parseKey(text: string | null): JsonObject | null {
    return text === null ? null : this.#followed.format.parse(text)
  }

  #row(text: string | null): JsonObject | null {
    if (text === null) return null
    const row = this.#followed.format.parse(text)
    const { columns } = this.#followed
    return columns === null ? row : Object.fromEntries(Object.entries(row).filter(([name]) => columns.has(name)))
  }
}

async function parsed(
  schema: StandardSchemaV1<unknown, unknown>,
  row: JsonObject | null,
  event: FeedEvent,
): Promise<JsonObject | null> {
  if (row === null) return null
  const result = await schema['~standard'].validate(row)
  if (result.issues === undefined) return result.value as JsonObject
  const issues = result.issues.map(
    ({ message, path }) =>
      `${path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.') ?? 'row'}: ${message}`,
  )
  throw new QueryError(
    `${event.location} ${event.id ?? ''}: the row does not fit the table's schema: ${issues.join('; ')}`,
  )
}

const singleInteger = /^\{"(?:[^"\\]|\\.)*":(-?[0-9]+)\}$/

/** The key as text, straight from the text of its JSON. */
export function idOf(key: string | null, number: (text: string) => string = (text) => text): string | null {
  if (key === null) return null
  const integer = singleInteger.exec(key)
  if (integer?.[1] !== undefined) return integer[1]
  const values = Object.values(keyTexts(key, number))
  if (values.includes(null)) return null
  return values.length === 1 ? (values[0] ?? null) : JSON.stringify(values)
}

/** Equal for equal keys: the numerics 1.0 and 1.00 are one key. */
export function keyIdentity(key: string | null): string | null {
  return key === null || !key.includes('.') ? idOf(key) : idOf(key, withoutTrailingZeros)
}

function withoutTrailingZeros(number: string): string {
  return number.includes('.') ? number.replace(/\.?0+$/, '') : number
}

function keyTexts(key: string, asText: (number: string) => string): Record<string, string | null> {
  // Every number becomes a string before it could be rounded.
  const exact = key.replace(
    /("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)/g,
    (_, string: string | undefined, number: string) => string ?? `"${asText(number)}"`,
  )
  return Object.fromEntries(
    Object.entries(parseExact(exact)).map(([column, value]: [string, JsonValue]) => [
      column,
      value === null ? null : typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  )
}

function same(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  return a === b || (typeof a === 'object' && typeof b === 'object' && JSON.stringify(a) === JSON.stringify(b))
}
