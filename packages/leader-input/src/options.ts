import type { StandardSchemaV1 } from '@standard-schema/spec'
import {
  ConfigurationError,
  type DirectConnection,
  type Locker,
  type ObservabilityOptions,
  type PgPool,
} from '@x/lock-core'
import { observabilityOptions, parseOptions } from '@x/lock-core/adapter'
import { checkPool } from '@x/pg-session'
import type { Kysely, Selectable, Transaction } from 'kysely'
import { z } from 'zod'
import type { ChangeEvent, Operation } from './change-event.ts'

/** What a handler is given besides the events. */
export interface HandlerContext<DB> {
  /** The transaction in which the cursor has moved: what is written through it happens exactly once. */
  readonly trx: Transaction<DB>
  /** The same transaction as plain SQL. */
  readonly client: { query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> }
  /** Of this leader; every later leader has a higher one. */
  readonly epoch: bigint
  /** 1 for the first try of these events. */
  readonly attempt: number
  /** Aborts when this leader's time is over, and after `handlerTimeoutMs`. */
  readonly signal: AbortSignal
}

/** An operation by its name, or by its other one: `insert` is `create`, `remove` is `delete`. */
export type OperationName = Exclude<Operation, 'read'> | 'insert' | 'remove'

/** Handles a batch; when it rejects, nothing of the batch has happened. */
export type ChangeHandler<DB> = (
  events: readonly ChangeEvent<DB>[],
  context: HandlerContext<DB>,
) => void | Promise<void>

/** How one table is followed. */
export interface TableConfig<R> {
  /** @default the input's operations */
  operations?: readonly OperationName[] | undefined
  /** Columns to see in `before` and `after`. @default all of them */
  columns?: readonly (keyof R & string)[] | undefined
  /** Parses each row; a row that does not fit fails like a handler. */
  schema?: StandardSchemaV1<unknown, unknown> | undefined
}

/** Options of {@link createLeaderInput}. */
export interface LeaderInputOptions<DB> extends ObservabilityOptions {
  /** Exactly one of `pool` and `connectionString`. A pool is never ended by us; a term takes one client of it, and borrows a second for the time of a read while it catches up. */
  pool?: PgPool | undefined
  connectionString?: string | undefined
  /** Any locker: it makes duplicates rare, the epoch in the cursor makes them impossible. */
  locker: Locker
  /** Name of the input: replicas with one name share one cursor. 1 to 200 characters. */
  name: string
  /** @default 'leader-input/<name>' */
  lockKey?: string | undefined
  /** Where the handler's `trx` takes its plugins from. */
  db?: Kysely<DB> | undefined
  /** `orders`, `public.orders`, or patterns such as `public.*`, which never match our own schema. */
  tables:
    | readonly (keyof DB & string)[]
    | { readonly [T in keyof DB & string]?: TableConfig<Selectable<DB[T]>> | undefined }
    | { readonly patterns: readonly string[] }
  /** @default create, update, delete and truncate */
  operations?: readonly OperationName[] | undefined
  /** Schema of our tables. @default 'coordination' */
  schema?: string | undefined
  /** Read what the tables hold already, as `read` events. `chunkSize` is 1 to 100_000. @default false; 1_000 */
  backfill?: boolean | { chunkSize?: number | undefined } | undefined
  /** `notify` sends one NOTIFY in each capturing transaction, which makes the commits of the database queue up. @default 'poll' */
  wakeUps?: 'poll' | 'notify' | undefined
  /** A direct connection for `notify`. @default the pool's settings or `connectionString` */
  listen?: DirectConnection | undefined
  /** Events, 1 to 100_000. @default 500 */
  batchSize?: number | undefined
  /** Bytes of row text, 1 KiB to 1 GiB; one event always fits. @default 8 MiB */
  maxBatchBytes?: number | undefined
  /** What becomes of an event that the handler cannot handle. @default 'halt' */
  onFailure?: 'halt' | 'park' | undefined
  /** Tries of a batch before it is split, 1 to 100. @default 5 */
  maxAttempts?: number | undefined
  /** Milliseconds, 100 to 86_400_000: a handler that takes longer is given up and tried again. @default 30_000 */
  handlerTimeoutMs?: number | undefined
  /** Milliseconds, 500 to 600_000: the lease of a locker that has leases, so a silent leader is replaced after it. @default 5_000 */
  takeoverMs?: number | undefined
  /** Beyond this the log drops what this input has not handled, with a gap. @default keep all */
  retention?: { maxRows?: number | undefined; maxAgeMs?: number | undefined } | undefined
  /** Deliver changes that the handler's own transaction made. @default false */
  ownChanges?: boolean | undefined
}

/** What `tables` says, by name. */
export type TableWishes =
  | { readonly kind: 'patterns'; readonly patterns: readonly string[] }
  | { readonly kind: 'named'; readonly tables: ReadonlyMap<string, TableWish> }

export interface TableWish {
  readonly operations: readonly Exclude<Operation, 'read'>[]
  readonly columns: readonly string[] | null
  readonly schema: StandardSchemaV1<unknown, unknown> | null
}

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly locker: Locker
  readonly name: string
  readonly lockKey: string
  readonly tables: TableWishes
  readonly operations: readonly Exclude<Operation, 'read'>[]
  readonly schema: string
  readonly backfillChunk: number | null
  readonly wakeUps: 'poll' | 'notify'
  readonly batchSize: number
  readonly maxBatchBytes: number
  readonly onFailure: 'halt' | 'park'
  readonly maxAttempts: number
  readonly handlerTimeoutMs: number
  readonly takeoverMs: number
  readonly retention: { readonly maxRows: number | null; readonly maxAgeMs: number | null }
  readonly ownChanges: boolean
}

const operationNames = {
  insert: 'create',
  create: 'create',
  update: 'update',
  remove: 'delete',
  delete: 'delete',
  truncate: 'truncate',
} as const
const operation = z
  .enum(['create', 'insert', 'update', 'delete', 'remove', 'truncate'])
  .transform((name) => operationNames[name])
const operations = z.array(operation).min(1)
const tableName = z.string().min(1).max(255)
const shape = <T>(method: string) =>
  z.custom<T>(
    (value) => typeof value === 'object' && value !== null && method in value,
    `expected an object with ${method}()`,
  )
const standardSchema = z.custom<StandardSchemaV1<unknown, unknown>>(
  (value) => (typeof value === 'object' || typeof value === 'function') && value !== null && '~standard' in value,
  'expected a Standard Schema, such as one of zod',
)
const tableConfig = z.strictObject({
  operations: operations.optional(),
  columns: z.array(z.string().min(1)).min(1).optional(),
  schema: standardSchema.optional(),
})
const count = (min: number, max: number) => z.number().int().min(min).max(max)

const optionsSchema = z.strictObject({
  pool: z.custom<PgPool>().optional(),
  connectionString: z.string().min(1).optional(),
  locker: shape<Locker>('acquire'),
  name: z
    .string()
    .min(1)
    .max(200)
    .refine((name) => !name.includes('\0') && name.isWellFormed(), 'expected well-formed Unicode without NUL'),
  lockKey: z.string().min(1).optional(),
  db: z.unknown().optional(),
  tables: z.union(
    [
      z.array(tableName).min(1),
      z.strictObject({ patterns: z.array(tableName).min(1) }),
      z.record(tableName, tableConfig.optional()),
    ],
    'expected an array of table names (one at least), { patterns: […] }, or an object with an entry for each table',
  ),
  operations: operations.optional(),
  schema: z.string().min(1).default('coordination'),
  backfill: z.union([z.boolean(), z.strictObject({ chunkSize: count(1, 100_000).optional() })]).default(false),
  wakeUps: z.enum(['poll', 'notify']).default('poll'),
  listen: z.unknown().optional(),
  batchSize: count(1, 100_000).default(500),
  maxBatchBytes: count(1_024, 1_073_741_824).default(8_388_608),
  onFailure: z.enum(['halt', 'park']).default('halt'),
  maxAttempts: count(1, 100).default(5),
  handlerTimeoutMs: count(100, 86_400_000).default(30_000),
  takeoverMs: count(500, 600_000).default(5_000),
  retention: z
    .strictObject({
      maxRows: count(1, Number.MAX_SAFE_INTEGER).optional(),
      maxAgeMs: count(1, Number.MAX_SAFE_INTEGER).optional(),
    })
    .optional(),
  ownChanges: z.boolean().default(false),
  ...observabilityOptions,
})

/** @throws {ConfigurationError} */
export function resolveOptions<DB>(given: LeaderInputOptions<DB>): ResolvedOptions {
  const options = parseOptions(optionsSchema, given, 'createLeaderInput')
  const { pool, connectionString } = options
  if ((pool === undefined) === (connectionString === undefined)) {
    const got = pool === undefined ? 'none' : 'both'
    throw new ConfigurationError(`createLeaderInput: expected exactly one of pool and connectionString; got ${got}`, {
      option: 'pool',
    })
  }
  if (pool !== undefined) checkPool(pool, 'createLeaderInput')
  const defaults = options.operations ?? (['create', 'update', 'delete', 'truncate'] as const)
  const wish = (config: z.output<typeof tableConfig> | undefined): TableWish => ({
    operations: config?.operations ?? defaults,
    columns: config?.columns ?? null,
    schema: config?.schema ?? null,
  })
  const { tables } = options
  const wishes = (): TableWishes => {
    if (Array.isArray(tables)) return { kind: 'named', tables: new Map(tables.map((name) => [name, wish(undefined)])) }
    if (Array.isArray(tables.patterns)) return { kind: 'patterns', patterns: tables.patterns }
    return {
      kind: 'named',
      tables: new Map(
        Object.entries(tables).map(([name, config]) => [name, wish(config as z.output<typeof tableConfig>)]),
      ),
    }
  }
  const chunkSize = typeof options.backfill === 'object' ? options.backfill.chunkSize : undefined
  return {
    ...options,
    lockKey: options.lockKey ?? `leader-input/${options.name}`,
    tables: wishes(),
    operations: defaults,
    backfillChunk: options.backfill === false ? null : (chunkSize ?? 1_000),
    retention: { maxRows: options.retention?.maxRows ?? null, maxAgeMs: options.retention?.maxAgeMs ?? null },
  }
}
