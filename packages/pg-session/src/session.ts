import { type Logger, UnsupportedError } from '@x/lock-core'
import type { ConnectionSource } from './connection-source.ts'
import type { Row, Statement } from './statement.ts'

export interface SessionOptions {
  source: ConnectionSource
  applicationName: string
  /** Time after which silence means that the session is lost. @default 5_000 */
  detectMs?: number | undefined
  /** 'session' = the pooler pins sessions, so a foreign pid is no reason to refuse. @default 'refuse' */
  pooler?: 'refuse' | 'session' | undefined
  /** Further server settings, such as `{ statement_timeout: '0' }`. */
  settings?: Readonly<Record<string, string>> | undefined
  /** Refuse a standby. @default true */
  requirePrimary?: boolean | undefined
  /** Ends the attempt to connect. */
  signal?: AbortSignal | undefined
  logger?: Logger | undefined
}

/** One supervised connection of our own. */
export interface Session {
  /** The backend's process id. */
  readonly pid: number
  /** Aborts once, with a {ConnectionError}, when the session is lost; not on `close()`. */
  readonly lost: AbortSignal
  /** Instant of `monotonicNow()` until which the session may be believed in. */
  readonly trustedUntil: number
  /** Neither lost, nor closed, nor past `trustedUntil`. */
  isAlive(): boolean
  /**
   * Statements run one after the other.
   * @param options.timeoutMs how long to wait for the answer before the session is given up; above `detectMs` it says
   * that the statement may block (Infinity allowed): no deadline is counted meanwhile. @default detectMs
   */
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: { timeoutMs?: number }): Promise<R[]>
  /** Ends the connection; what is in flight rejects with {ClosedError}. Idempotent. */
  close(): Promise<void>
}

export function openSession(_options: SessionOptions): Promise<Session> {
  throw new UnsupportedError('not yet')
}
