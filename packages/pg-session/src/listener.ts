import { type CoordinationError, type Logger, UnsupportedError } from '@x/lock-core'
import type { ConnectionSource } from './connection-source.ts'
import type { Row, Statement } from './statement.ts'

export type ListenerState =
  | { readonly status: 'idle' }
  | { readonly status: 'connecting'; readonly attempt: number; readonly lastError: CoordinationError | null }
  | { readonly status: 'listening'; readonly pid: number }
  /** The server cannot deliver here (a transaction pooler, no LISTEN): final. */
  | { readonly status: 'refused'; readonly error: CoordinationError }
  | { readonly status: 'closed' }

/** The listener's own connection, for session locks that must end with it. */
export interface ListenerSession {
  readonly pid: number
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: { timeoutMs?: number }): Promise<R[]>
}

export interface ListenerOptions {
  source: ConnectionSource
  applicationName: string
  /** Raw payloads, '' for none; must only enqueue. */
  onNotification(channel: string, payload: string): void
  /** After each (re)subscribe, before any notification of the new connection: re-read your state now. `gapMs` is how long nothing was heard, 0 the first time. */
  onResync(event: { readonly gapMs: number; readonly first: boolean }): void
  /** As soon as it is known. */
  onStateChange?: ((state: ListenerState) => void) | undefined
  /** On each fresh connection after LISTEN took effect and before `onResync`; a rejection gives the connection up. */
  onConnected?: ((session: ListenerSession) => Promise<void>) | undefined
  /** @default 5_000 */
  detectMs?: number | undefined
  /** 'session' = the pooler pins sessions. @default 'refuse' */
  pooler?: 'refuse' | 'session' | undefined
  /** Closes the listener. */
  signal?: AbortSignal | undefined
  logger?: Logger | undefined
}

/** Connects on the first `listen` and stays connected until closed. */
export interface Listener {
  readonly state: ListenerState
  /** Resolves when LISTEN took effect. Rejects with {PoolerDetectedError}, {UnsupportedError} when refused, {ClosedError}. */
  listen(channel: string): Promise<void>
  unlisten(channel: string): Promise<void>
  /** Resolves when the connection is gone. Idempotent. */
  close(): Promise<void>
}

export function createListener(_options: ListenerOptions): Listener {
  throw new UnsupportedError('not yet')
}
