import type { Locker, LockLostReason, LockStatus } from './locker.ts'
import type { ObservabilityOptions, Unsubscribe } from './observability.ts'

/** Why a term ended: the way its lock was lost, or what was asked for. */
export type DemotionReason = LockLostReason | 'resigned' | 'stopped'

/** One time in office. */
export interface LeaderTerm {
  /** Counts the terms of this elector, from 1. */
  readonly number: number
  /** Hand it to whatever must not be done by two leaders. */
  readonly fencingToken: bigint | null
  readonly electedAt: Date
  /** Aborts when the term ends, before `demoted` is called and before the lock is released. */
  readonly signal: AbortSignal
  /** Exact at the moment of the call. */
  isCurrent(): boolean
}

/** Options of a leader elector. */
export interface LeaderElectorOptions extends ObservabilityOptions {
  locker: Locker
  /** The office that is campaigned for. */
  key: string
  /** Shown as `metadata.candidate` in `leader()`. */
  candidate?: string | undefined
  /** Milliseconds. @default the locker's */
  ttlMs?: number | undefined
  /** Milliseconds, ± 20 %, between attempts after an error. @default 1_000 */
  retryMs?: number | undefined
  /** Milliseconds to wait for the promise of `elected` after its signal has aborted; then the lock is released. @default 5_000 */
  stopTimeoutMs?: number | undefined
  /** The leader's work; it should end when `term.signal` aborts. */
  elected?: ((term: LeaderTerm) => void | Promise<void>) | undefined
  /** Follows each `elected`, before the next; called at once when the term ends. */
  demoted?: ((reason: DemotionReason, term: LeaderTerm) => void | Promise<void>) | undefined
  /** Errors of callbacks and of the database; none of them ends the elector or the term. */
  onError?: ((error: unknown) => void) | undefined
}

/** Events of a leader elector. */
export interface LeaderElectorEvents {
  elected: [term: LeaderTerm]
  demoted: [reason: DemotionReason, term: LeaderTerm]
  error: [error: unknown]
}

/** A candidate for one office. */
export interface LeaderElector extends AsyncDisposable {
  readonly state: 'idle' | 'campaigning' | 'leading' | 'stopping' | 'stopped'
  /** The current term; null when not the leader. */
  readonly term: LeaderTerm | null
  /**
   * Why the last attempt to be elected that has ended failed, such as a `ConnectionError` for a wrong password; null after one
   * that succeeded. Attempts go on, and one that stands in line now shows no error of its own: `leader()` asks the store.
   */
  readonly lastError: unknown
  /**
   * Begins to campaign; does nothing when it already does. From here on the process is kept running, as a leader and as a
   * candidate: one whose only work is the office lives until `stop()` or `close()`, or the end of its locker.
   * @throws {ClosedError}
   */
  start(): void
  /**
   * Ends the term with reason `stopped`, or the campaign; resolves when the lock is released. Do not await it inside
   * `elected`: it waits for the work to end. May be started again.
   */
  stop(): Promise<void>
  /**
   * Hands over at once; stays a candidate, but sits out `pauseMs` (by default `retryMs`). Resolves when the lock is
   * released; do not await it inside `elected`. Does nothing when not the leader.
   */
  resign(options?: { pauseMs?: number | undefined }): Promise<void>
  /** Exact at the moment of the call, by the local deadline. */
  isLeader(): boolean
  /** Who leads, as the store shows it; the candidate's name is in `metadata.candidate`. */
  leader(): Promise<LockStatus>
  /** An error thrown by a listener is reported like one of `elected`. */
  on<E extends keyof LeaderElectorEvents>(event: E, listener: (...args: LeaderElectorEvents[E]) => void): Unsubscribe
  /** Stops for good; idempotent. */
  close(): Promise<void>
}
