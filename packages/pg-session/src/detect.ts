import { PoolerDetectedError, UnsupportedError } from '@x/lock-core'
import { sqlStateOf } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'
import * as statements from './statements.ts'

/** Anything that runs a statement and gives its rows as arrays: a session, a runner. */
export interface QueryRows {
  query<R extends Row = Row>(statement: Statement, values: unknown[]): Promise<R[]>
}

/** What the server can do, found by asking it. */
export interface ServerCapabilities {
  /** True on a standby, which can neither LISTEN nor write, and grants advisory locks that exclude nobody. */
  readonly inRecovery: boolean
  /** Session advisory locks exclude and can be seen; some wire-compatible databases accept the call and do nothing. */
  readonly advisoryLocks: boolean
  readonly listen: boolean
  readonly plpgsql: boolean
  /** The timeline can be read, so fencing tokens rise over a failover that lost commits. */
  readonly timeline: boolean
}

/**
 * Compares the process id that the connection was told at its start with the one that the backend says it has: behind a
 * pooler the first is the pooler's invention. Without key data (some databases send none) nothing can be told.
 *
 * @param advice what else than another connection the caller can do
 * @throws {PoolerDetectedError}
 */
export function detectPooler(processId: number | null, backendPid: number, what: string, advice = ''): void {
  if (processId === null || processId === backendPid) return
  throw new PoolerDetectedError(
    `${what}: expected a connection straight to the server, got one through a pooler (it says process ${processId}, the backend says ${backendPid}): a transaction pooler hands the session to others between two statements; give a connection that goes past it${advice}`,
  )
}

/** @throws {UnsupportedError} on a standby; retryable, because a standby may be promoted */
export function refuseStandby(inRecovery: boolean, what: string): void {
  if (!inRecovery) return
  throw new UnsupportedError(
    `${what}: expected the primary, got a standby (in recovery), whose session locks exclude nobody and which cannot LISTEN; connect to the primary`,
    { retryable: true },
  )
}

/**
 * Asks the server what it can do, by doing it. The session must be one of our own: the advisory probe takes a lock of the
 * session for a moment.
 */
export async function serverCapabilities(session: QueryRows): Promise<ServerCapabilities> {
  return {
    inRecovery: (await ask(session, statements.inRecovery)) === true,
    advisoryLocks: (await ask(session, statements.advisoryProbe)) === true,
    listen: (await ask(session, statements.listeningChannels)) !== undefined,
    plpgsql: (await ask(session, statements.plpgsql)) === true,
    timeline: (await ask(session, statements.timeline)) !== undefined,
  }
}

/** The first column of the first row, null for no row, or undefined if the server does not know what was asked. */
async function ask(session: QueryRows, statement: Statement): Promise<unknown> {
  try {
    return (await session.query(statement, []))[0]?.[0] ?? null
  } catch (error) {
    const state = sqlStateOf(error)
    // Not supported, no such function or relation, no right to it, not now (55000: a standby), or wrong syntax.
    if (state !== null && /^(0A|42|55|XX)/.test(state)) return undefined
    throw error
  }
}
