import type { CoordinationError, Logger } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import pg from 'pg'
import { connectClient, nameClient } from './client.ts'
import { type ConnectionSource, settingsFrom } from './connection-source.ts'
import { type Introduction, introduceWire } from './introduction.ts'
import type { Row, Statement } from './statement.ts'
import * as statements from './statements.ts'
import { Wire } from './wire.ts'

export interface SessionOptions {
  source: ConnectionSource
  /** Shown in `pg_stat_activity`. */
  applicationName: string
  /** Milliseconds after which silence means that the session is lost; also the limit for connecting. @default 5_000 */
  detectMs?: number | undefined
  /**
   * 'session' = the pooler pins sessions, so a foreign pid is no reason to refuse; undefined refuses too, and does not
   * mention the option.
   */
  pooler?: 'refuse' | 'session' | undefined
  /** Further server settings, such as `{ lock_timeout: '0' }`; they win over ours. */
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
   *
   * @param options.timeoutMs how long to wait for the answer before the session is given up. Above `detectMs` it says that
   * the statement may block (Infinity allowed), and no deadline is counted meanwhile. @default detectMs
   * @throws {ConnectionError} when the session is lost before the answer: the statement may have run
   */
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: { timeoutMs?: number }): Promise<R[]>
  /**
   * Whether the open connection alone keeps the process running; turn it on again before the next use.
   * @default true
   */
  keepProcess(on: boolean): void
  /**
   * Ends the connection; what is in flight rejects with `reason`. Resolves when the socket is closed. Idempotent.
   * @param reason why, for who gave the session up without closing what it belongs to @default a {ClosedError}
   */
  close(reason?: CoordinationError): Promise<void>
}

/** @default of every `detectMs` */
export const defaultDetectMs = 5_000

/**
 * Opens one connection and watches over it. Never taken from a pool: a session lock needs a session.
 *
 * @throws {PoolerDetectedError} behind a pooler
 * @throws {UnsupportedError} on a standby
 * @throws {ConnectionError} when the database cannot be reached; or the signal's reason
 * @example
 * const session = await openSession({ source, applicationName: 'locks' })
 * const [row] = await session.query({ name: 'one', text: 'SELECT 1' }, [])
 * await session.close()
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { source, applicationName, detectMs = defaultDetectMs, signal } = options
  const settings = await settingsFrom(source, { limitMs: detectMs, signal })
  const client = new pg.Client({
    connectionTimeoutMillis: detectMs,
    ...settings,
    keepAlive: true,
    keepAliveInitialDelayMillis: detectMs,
  })
  nameClient(client, applicationName)
  const connectedAt = monotonicNow()
  await connectClient(client, { connect: () => client.connect(), signal })

  const lost = new AbortController()
  const wire: Wire = new Wire(client, connectedAt, {
    detectMs,
    what: 'session',
    heartbeat: () => wire.query(statements.heartbeat, []),
    onLost: (error: CoordinationError) => {
      options.logger?.warn({ err: error, applicationName }, 'session lost')
      lost.abort(error)
    },
  })
  const introduction = await introduceWire(wire, client, {
    what: 'session',
    detectMs,
    pooler: options.pooler,
    requirePrimary: options.requirePrimary ?? true,
    settings: options.settings ?? {},
    signal,
  })
  return new WatchedSession(wire, introduction, lost.signal)
}

class WatchedSession implements Session {
  readonly pid: number
  readonly lost: AbortSignal
  readonly #wire: Wire

  constructor(wire: Wire, introduction: Introduction, lost: AbortSignal) {
    this.#wire = wire
    this.pid = introduction.pid
    this.lost = lost
  }

  get trustedUntil(): number {
    return this.#wire.trustedUntil
  }

  isAlive(): boolean {
    return this.#wire.isAlive()
  }

  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: { timeoutMs?: number }): Promise<R[]> {
    return this.#wire.query(statement, values, options?.timeoutMs)
  }

  keepProcess(on: boolean): void {
    this.#wire.keepProcess(on)
  }

  close(reason?: CoordinationError): Promise<void> {
    return this.#wire.close(reason)
  }
}
