import { type Logger, type PgPool, type Policy, UnsupportedError } from '@x/lock-core'
import type { Row, Statement } from './statement.ts'

export interface RunnerOptions {
  /** Exactly one of the two. */
  pool?: PgPool | undefined
  connectionString?: string | undefined
  applicationName: string
  policy?: Policy | undefined
  logger?: Logger | undefined
}

export interface StatementOptions {
  /** For the whole call: waiting for a client, the statement, retries of 40001 and 40P01. @default 30_000 */
  timeoutMs?: number | undefined
  signal?: AbortSignal | undefined
  /** Renewals, heartbeats, beats and releases bypass the policy. @default false */
  bypassPolicy?: boolean | undefined
}

export interface RunnerTransaction {
  query<R extends Row = Row>(statement: Statement, values: unknown[]): Promise<R[]>
}

/** Runs statements on the caller's pool, or on one of its own. */
export interface Runner {
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: StatementOptions): Promise<R[]>
  /** `fn` may run several times: a serialization failure or deadlock rolls back and starts over. */
  transaction<T>(fn: (transaction: RunnerTransaction) => Promise<T>, options?: StatementOptions): Promise<T>
  /** Ends only a pool that the runner opened. Idempotent. */
  close(): Promise<void>
}

export function createRunner(_options: RunnerOptions): Runner {
  throw new UnsupportedError('not yet')
}
