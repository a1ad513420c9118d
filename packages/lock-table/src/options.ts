import { hostname } from 'node:os'
import type { DirectConnection, ObservabilityOptions, PgPool } from '@x/lock-core'
import { ConfigurationError } from '@x/lock-core'
import { observabilityOptions, parseOptions } from '@x/lock-core/adapter'
import { checkPool } from '@x/pg-session'
import { z } from 'zod'

/** Options of the table locker. */
export interface TableLockerOptions extends ObservabilityOptions {
  /** Runs our statements, each a transaction of its own; never ended by us. Exactly one of `pool` and `connectionString`. */
  pool?: PgPool | undefined
  /**
   * A pool of our own is opened on it.
   * @default the environment variable POSTGRES_SUPERVISOR_URL
   */
  connectionString?: string | undefined
  /**
   * A direct connection for LISTEN, where the other one goes through a transaction pooler; `false` is `wakeUps: 'poll'`.
   * @default the settings of the pool, or the connection string
   */
  listen?: DirectConnection | false | undefined
  /**
   * How waiters hear that it is their turn: by a notification with polling behind it, or by polling alone.
   * @default 'listen'
   */
  wakeUps?: 'listen' | 'poll' | undefined
  /**
   * Milliseconds between polls of a process that waits, give or take a fifth; at least 10.
   * @default 1_000
   */
  pollMs?: number | undefined
  /** @default 'coordination' */
  schema?: string | undefined
  /** @default 'locks' */
  table?: string | undefined
  /**
   * Who `status()` says the holder is.
   * @default name: '<hostname>:<pid>', address: none
   */
  acquirer?: { name?: string | undefined; address?: string | undefined } | undefined
  /**
   * Milliseconds of a lease, 100 to 2^31 - 1; renewed at a third of it.
   * @default 30_000
   */
  ttlMs?: number | undefined
  /**
   * Milliseconds that a waiter has to confirm a lock that was handed to it, before the next in line gets it.
   * @default 2_000
   */
  claimMs?: number | undefined
  /**
   * Milliseconds by which the server's clock may step: a lease is taken over this long after its end. The same everywhere.
   * @default 250
   */
  clockMarginMs?: number | undefined
  /**
   * `wait`: for the longest ttl in use after a failover (a change of the server's timeline) nothing is granted, because the
   * standby may have missed grants that are still believed in. `grant`: at once, where every write is fenced or replication
   * is synchronous.
   * @default 'wait'
   */
  afterFailover?: 'wait' | 'grant' | undefined
}

/** The options with every default filled in. */
export interface ResolvedTableLockerOptions extends ObservabilityOptions {
  readonly pool: PgPool | undefined
  readonly connectionString: string | undefined
  /** Null: waiters poll. Undefined: the settings of the pool, or the connection string. */
  readonly listen: DirectConnection | null | undefined
  readonly pollMs: number
  readonly schema: string
  readonly table: string
  readonly name: string
  readonly address: string | null
  readonly ttlMs: number
  readonly claimMs: number
  readonly clockMarginMs: number
  readonly afterFailover: 'wait' | 'grant'
}

/** The one place where this package reads the environment. */
const environmentVariable = 'POSTGRES_SUPERVISOR_URL'

const longestMs = 2_147_483_647

const milliseconds = (least: number): z.ZodNumber =>
  z
    .number(`expected milliseconds, ${least} to ${longestMs}`)
    .int(`expected whole milliseconds`)
    .min(least, `expected milliseconds, at least ${least}`)
    .max(longestMs, `expected milliseconds, at most ${longestMs}`)

const text = z
  .string('expected a string')
  .max(1_024, 'expected at most 1,024 characters')
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'expected well-formed Unicode without NUL')

const identifier = text
  .min(1, 'expected at least one character')
  .refine((value) => Buffer.byteLength(value) <= 63, 'expected at most 63 bytes')

const direct = z.custom<DirectConnection>(
  (value) =>
    (typeof value === 'string' && value !== '') ||
    typeof value === 'function' ||
    (typeof value === 'object' && value !== null),
  'expected a connection string, a configuration of pg, a function that gives one, or false',
)

const schema = z.strictObject({
  pool: z.custom<PgPool>().optional(),
  connectionString: z.string('expected a connection string').min(1, 'expected a connection string').optional(),
  listen: z.union([z.literal(false), direct]).optional(),
  wakeUps: z.enum(['listen', 'poll'], `expected 'listen' or 'poll'`).default('listen'),
  pollMs: milliseconds(10).default(1_000),
  schema: identifier.default('coordination'),
  table: identifier.default('locks'),
  acquirer: z.strictObject({ name: text.optional(), address: text.optional() }).default({}),
  ttlMs: milliseconds(100).default(30_000),
  claimMs: milliseconds(100).default(2_000),
  clockMarginMs: milliseconds(0).default(250),
  afterFailover: z.enum(['wait', 'grant'], `expected 'wait' or 'grant'`).default('wait'),
  ...observabilityOptions,
})

/** @throws {ConfigurationError} */
export const resolveOptions = (
  options: TableLockerOptions | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): ResolvedTableLockerOptions => {
  const where = 'createTableLocker'
  const parsed = parseOptions(schema, options ?? {}, where)
  if (parsed.pool !== undefined) checkPool(parsed.pool, where)
  if (parsed.pool !== undefined && parsed.connectionString !== undefined) {
    throw new ConfigurationError(`${where}: expected one of pool and connectionString; got both`, { option: 'pool' })
  }
  const fromEnvironment = parsed.pool === undefined ? (environment[environmentVariable] ?? '') : ''
  const connectionString = parsed.connectionString ?? (fromEnvironment === '' ? undefined : fromEnvironment)
  if (parsed.pool === undefined && connectionString === undefined) {
    throw new ConfigurationError(
      `${where}: expected one of the options pool and connectionString, or the environment variable ${environmentVariable}; got none`,
      { option: 'connectionString' },
    )
  }
  return {
    pool: parsed.pool,
    connectionString,
    listen: parsed.wakeUps === 'poll' || parsed.listen === false ? null : parsed.listen,
    pollMs: parsed.pollMs,
    schema: parsed.schema,
    table: parsed.table,
    name: parsed.acquirer.name ?? `${hostname()}:${process.pid}`,
    address: parsed.acquirer.address ?? null,
    ttlMs: parsed.ttlMs,
    claimMs: parsed.claimMs,
    clockMarginMs: parsed.clockMarginMs,
    afterFailover: parsed.afterFailover,
    ...(parsed.logger === undefined ? {} : { logger: parsed.logger }),
    ...(parsed.policy === undefined ? {} : { policy: parsed.policy }),
  }
}
