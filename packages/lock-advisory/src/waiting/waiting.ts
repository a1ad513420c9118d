import type { LockMode } from '@x/lock-core'
import type { WaitLimit } from '@x/lock-core/adapter'
import type { Outcome } from '../batch.ts'
import type { SessionLocks } from '../session-locks.ts'
import type { Outage } from './outage.ts'

/** One who waits: the head of his id's line in this process, after a first try that found the lock taken. */
export interface Wait {
  readonly id: string
  readonly mode: LockMode
  readonly limit: WaitLimit
}

/** A lock that the server granted, in whichever session. */
export interface Granted {
  readonly session: SessionLocks
  readonly outcome: Pick<Outcome, 'token' | 'sentAt' | 'answeredAtMs' | 'size'>
}

/** How to wait for other processes. */
export interface Waiting {
  /** Whether one who comes out of a line of this process tries before he waits: not where waiting is a try as well. */
  readonly triesFirst: boolean
  /** Resolves to the grant, or to null when the limit is over: then nothing is held. */
  wait(wait: Wait): Promise<Granted | null>
  /** A session was lost: whoever waited with its help looks for another one. */
  sessionLost(session: SessionLocks): void
  /** A lock of the session was given back. */
  freed(session: SessionLocks): void
  close(): Promise<void>
}

/** What waiting needs of the locker. */
export interface WaitingContext {
  /** The locker's session, opened when there is none. */
  session(): Promise<SessionLocks>
  readonly pollMs: number
  /** Of all who wait with this locker. */
  readonly outage: Outage
}
