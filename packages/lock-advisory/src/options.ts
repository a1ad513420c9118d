import type { DirectConnection, ObservabilityOptions, PgPool } from '@x/lock-core'
import { observabilityOptions } from '@x/lock-core/adapter'
import { z } from 'zod'

/** Options of `createAdvisoryLocker`. Exactly one of `connection`, `connectionString` and `pool` says where the server is. */
export interface AdvisoryLockerOptions extends ObservabilityOptions {
  /**
   * A connection that leads straight to the server; a function is asked anew for each attempt to connect, and has `detectMs`
   * to answer.
   */
  connection?: DirectConnection | undefined
  connectionString?: string | undefined
  /** Its options are read; its clients are not taken, because a session lock needs a session of its own. */
  pool?: PgPool | undefined
  /**
   * Part of what is hashed into a lock's id: the same key in two namespaces is two locks. An integer of 32 bits.
   * @default 0
   */
  namespace?: number | undefined
  /**
   * How to wait for a lock that another process holds. `notify`: the releaser tells those who wait. `server`: in the
   * server's own queue, in order over all processes, with one connection for each key that is waited for. `poll`: by
   * looking again, for servers without LISTEN.
   * @default 'notify'
   */
  wait?: 'notify' | 'server' | 'poll' | undefined
  /**
   * Connections of this locker at most, its session included; the others wait in the server's queue (`wait: 'server'`).
   * @default 9
   */
  maxConnections?: number | undefined
  /**
   * `sequence`: durable tokens, needs the migration. `xid`: transaction ids, no schema, weaker over a crash of the server.
   * `none`: `fencingToken` is null.
   * @default 'sequence' where the migration was run, else 'none'
   */
  fencing?: 'sequence' | 'xid' | 'none' | undefined
  /**
   * Milliseconds of silence after which the session is given up, and every lock in it; at least 100.
   * @default 5_000
   */
  detectMs?: number | undefined
  /**
   * Milliseconds after which connections that nobody uses are closed.
   * @default 10_000
   */
  idleMs?: number | undefined
  /**
   * Milliseconds, ± 10 %, after which a waiter looks again although nobody told it to.
   * @default 900
   */
  pollMs?: number | undefined
  /**
   * `refuse` fails on first use behind a pooler; `session` says that the pooler pins sessions.
   * @default 'refuse'
   */
  pooler?: 'refuse' | 'session' | undefined
  /**
   * How many locks this locker may hold at once, interest of waiters included.
   * @default a quarter of the server's lock table
   */
  maxLocks?: number | undefined
  /**
   * Shown in `pg_stat_activity`, and as `acquirerName` to everybody who asks for a lock's status.
   * @default '<hostname>:<pid>'
   */
  applicationName?: string | undefined
  /**
   * Where the migration put the fencing sequence.
   * @default 'coordination'
   */
  schema?: string | undefined
}

const anInt32 = 'expected an integer of 32 bits, such as 7'
const int32 = z.int(anInt32).min(-2_147_483_648, anInt32).max(2_147_483_647, anInt32)
/** In the message of a connection's start strings end at a NUL: what follows it would be read as another setting. */
const withoutNul = (text: string): boolean => !text.includes('\0') && text.isWellFormed()
const milliseconds = (atLeast: number): z.ZodNumber => {
  const expected = `expected milliseconds as a number, at least ${atLeast} and at most 2,147,483,647`
  return z.number(expected).min(atLeast, expected).max(2_147_483_647, expected)
}

/** Options with every default filled in; where to connect is checked by whoever connects. */
export interface ResolvedOptions {
  readonly namespace: number
  readonly wait: 'notify' | 'server' | 'poll'
  readonly maxConnections: number
  readonly fencing?: 'sequence' | 'xid' | 'none' | undefined
  readonly detectMs: number
  readonly idleMs: number
  readonly pollMs: number
  readonly pooler: 'refuse' | 'session'
  readonly maxLocks?: number | undefined
  readonly applicationName?: string | undefined
  readonly schema: string
}

/** Checks the options of `createAdvisoryLocker` and fills in the defaults. */
export const advisoryOptions: z.ZodType<ResolvedOptions> = z.strictObject({
  connection: z.unknown().optional(),
  connectionString: z.unknown().optional(),
  pool: z.unknown().optional(),
  ...observabilityOptions,
  namespace: int32.default(0),
  wait: z.enum(['notify', 'server', 'poll']).default('notify'),
  maxConnections: z.number().int().min(1).max(1_000).default(9),
  fencing: z.enum(['sequence', 'xid', 'none']).optional(),
  detectMs: milliseconds(100).default(5_000),
  idleMs: milliseconds(1).default(10_000),
  pollMs: milliseconds(1).default(900),
  pooler: z.enum(['refuse', 'session']).default('refuse'),
  maxLocks: z.number().int().min(1).optional(),
  applicationName: z.string().min(1).max(63).refine(withoutNul, 'expected well-formed Unicode without NUL').optional(),
  schema: z.string().min(1).default('coordination'),
})
