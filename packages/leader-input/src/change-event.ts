import type { Selectable } from 'kysely'

/** Whatever JSON can say. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/**
 * What happened to a row. `read` is a row seen by a backfill: an upsert for whoever consumes it. In the configuration
 * `insert` and `remove` are other names for `create` and `delete`.
 */
export type Operation = 'create' | 'read' | 'update' | 'delete' | 'truncate'

/** A row as the feed delivers it: the text of `to_json`, with bigint, numeric, dates and bytea as strings. */
export type JsonRow<R> = { readonly [C in keyof R]: JsonCell<R[C]> }

/** One value of a row. */
export type JsonCell<T> = T extends Date | bigint | Uint8Array
  ? string
  : T extends string | number | boolean | null | undefined
    ? T
    : T extends readonly (infer E)[]
      ? readonly JsonCell<E>[]
      : T extends object
        ? JsonRow<T>
        : unknown

/** One change of one row, typed by the Kysely interface of the database; narrow it by `table` and `operation`. */
export type ChangeEvent<DB, T extends keyof DB & string = keyof DB & string> = T extends keyof DB & string
  ? ChangeBase<T> & ChangeRows<JsonRow<Selectable<DB[T]>>>
  : never

/** What every event carries. */
export interface ChangeBase<T extends string> {
  /** Name of the input. */
  readonly input: string
  /** The table by the name that the options use. */
  readonly table: T
  /** Schema and name, such as `public.orders`; of the root for a partition. */
  readonly location: string
  /** Number of the change in the log. Increases within a window; not the order of commits over all. */
  readonly seq: bigint
  /** The transaction that made the change; 0 for `read`. */
  readonly xid: bigint
  /** When the change was made, by the database's clock. Microseconds are in `idempotencyKey`. */
  readonly at: Date
  /** The same on every delivery of this change and of no other. */
  readonly idempotencyKey: string
  /** Name of the trigger that captured it; `backfill` for `read`. */
  readonly trigger: string
  /** The key as text: the value of a single key column, a JSON array of texts for several; null without a key. */
  readonly id: string | null
  /** Key columns and their values after the change (before it, for a delete); null for a table without a key. */
  readonly key: { readonly [column: string]: JsonValue } | null
  /** The key before an update that changed it, else null. */
  readonly oldKey: { readonly [column: string]: JsonValue } | null
  /** Columns whose value differs between `before` and `after`; all of them for other operations than update. */
  readonly changed: readonly string[]
  /** The row was too large to be captured: the key is there, `before` or `after` is null. */
  readonly oversize: boolean
  /** The shape of the classic trigger-and-notify inputs. */
  toRoute(): { location: string; operation: Operation; id: string; trigger: string }
}

/** The rows by operation; null where the operation has none, and where `oversize` says so. */
export type ChangeRows<R> =
  | { readonly operation: 'create' | 'read'; readonly before: null; readonly after: R | null }
  | { readonly operation: 'update'; readonly before: R | null; readonly after: R | null }
  | { readonly operation: 'delete'; readonly before: R | null; readonly after: null }
  | { readonly operation: 'truncate'; readonly before: null; readonly after: null }
