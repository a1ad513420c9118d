import { UnsupportedError } from '@x/lock-core'
import type { Row } from './statement.ts'

/** Anything that runs a statement and gives its rows as arrays: a session, a runner. */
export interface QueryRows {
  query<R extends Row = Row>(
    statement: { readonly name: string; readonly text: string },
    values: unknown[],
  ): Promise<R[]>
}

/** What the server can do, found by asking it. */
export interface ServerCapabilities {
  /** True on a standby, which can neither LISTEN nor write. */
  readonly inRecovery: boolean
  /** Session advisory locks exclude, as a self-probe showed; some wire-compatible databases accept them and do nothing. */
  readonly advisoryLocks: boolean
  readonly listen: boolean
  readonly plpgsql: boolean
  /** Numeric version where the server tells one, such as 150018; for messages, not for decisions. */
  readonly versionNumber: number | null
}

/**
 * @throws {PoolerDetectedError} when the backend's pid is not the one that the connection was told at its start
 */
export function detectPooler(_processId: number | null, _backendPid: number, _what: string): void {
  throw new UnsupportedError('not yet')
}

/** Asks the server what it can do. */
export function serverCapabilities(_session: QueryRows): Promise<ServerCapabilities> {
  throw new UnsupportedError('not yet')
}
