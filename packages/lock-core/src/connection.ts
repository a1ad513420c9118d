/**
 * What we need of a `pg` pool, re-declared so that no type of `pg` is part of a published type. A `pg.Pool` fits.
 * A pool that is passed in is never ended by us.
 */
export interface PgPool {
  connect(): Promise<{
    query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
    release(destroy?: boolean | Error): void
  }>
  readonly options: object
}

/** What we need of a `pg` client configuration, re-declared; further fields of `pg.ClientConfig` pass through. */
export interface PgConnectionConfig {
  connectionString?: string | undefined
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  database?: string | undefined
  /** A function is asked anew for each connection, so that short-lived (IAM) tokens work. */
  password?: string | (() => string | Promise<string>) | undefined
  ssl?: boolean | object | undefined
  options?: string | undefined
  stream?: unknown
  application_name?: string | undefined
}

/** A connection that leads straight to the server, past any transaction pooler: what session locks and LISTEN need. */
export type DirectConnection = string | PgConnectionConfig | (() => PgConnectionConfig | Promise<PgConnectionConfig>)

/**
 * Whatever runs SQL inside the caller's *open transaction*: a `pg` client after BEGIN, a Kysely transaction, or an object
 * whose `query(text, values)` resolves to rows or `{ rows }`. A pool does not fit: each of its queries is a transaction.
 */
export type SqlExecutor =
  | {
      query(text: string, values: unknown[]): Promise<{ rows: unknown[] } | unknown[]>
      readonly totalCount?: never
    }
  | { readonly isTransaction: boolean; executeQuery(query: never): Promise<{ rows: unknown[] }> }

/** Options of each package's `migrate(pool, options)`. */
export interface MigrationOptions {
  /** @default 'coordination' */
  schema?: string | undefined
  /** Ends the wait for the migration lock; rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/** What a migration did. */
export interface MigrationReport {
  /** Names of the files applied by this call, in order; empty when there was nothing to do. */
  readonly applied: readonly string[]
  /** The package's schema version after the call. */
  readonly version: number
}
