import { PoolerDetectedError, UnsupportedError } from '@x/lock-core'

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
