import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'

/**
 * A statement whose rows must be locked before it looks at them: by the function of the migration, or, where the server has
 * no plpgsql, as two statements of one transaction. Both run the same text; a test holds the two copies together.
 */
export interface LockingStatement {
  readonly call: Statement
  /** Locks the rows of the keys `$1` in key order, as every statement here does. */
  readonly lock: Statement
  /** What runs after it, with a new snapshot. */
  readonly afterwards: Statement
  /** How many of the values `afterwards` takes. */
  readonly parameters: number
}

/** The name tells the prepared statements of two tables apart that share a connection. */
export const named =
  (n: TableNames) =>
  (name: string, text: string): Statement => ({ name: `lock_${name}_${n.tag}`, text })

export const locking =
  (n: TableNames) =>
  (name: string, parameters: number, call: string, afterwards: string): LockingStatement => ({
    parameters,
    call: named(n)(name, call),
    lock: named(n)(
      'lock_rows',
      `SELECT FROM ${n.locks} l WHERE l.key = ANY ($1::text[]) ORDER BY l.key FOR NO KEY UPDATE`,
    ),
    afterwards: named(n)(`${name}_locked`, afterwards),
  })

/** All columns come as text, so that type parsers which the application registered do not touch them. */
export const epochMs = (timestamp: string): string => `(extract(epoch FROM ${timestamp}) * 1000)::bigint::text`
const untilMs = (timestamp: string): string => `extract(epoch FROM ${timestamp} - clock_timestamp()) * 1000`
/** Milliseconds to wait for it: when they are over, it is past. */
export const leftMs = (timestamp: string): string => `ceil(${untilMs(timestamp)})::bigint::text`
/** Milliseconds that a lease may be relied on: when they are over, it is not past yet. */
export const leaseLeftMs = (timestamp: string): string => `floor(${untilMs(timestamp)})::bigint::text`
export const ms = (parameter: string): string => `${parameter} * interval '1 millisecond'`

/** Whether the row `l` is held; `margin` is by how many milliseconds the server's clock may step. */
export const held = (l: string, margin: string): string =>
  `${l}.is_acquired AND (${l}.expires_at IS NULL OR ${l}.expires_at + ${ms(margin)} > clock_timestamp())`

/** Committed before the answer leaves, whatever the role's setting; the write reads from this step, so it comes first. */
export const durable = `durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true) AS setting)`
/** The same, with the time for all rows of the statement. */
export const durableNow = `durable AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'on', true) AS setting, clock_timestamp() AS now
)`
/** Need not survive a crash: what is lost is written again. */
export const lazy = `lazy AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS setting)`

/**
 * An array whose length a planner cannot see: it finds its plan for some other length no worse, and goes on using it. Planning
 * costs more than the rest of most statements.
 */
export const ofAnySize = (array: string): string => `(SELECT ${array})`
