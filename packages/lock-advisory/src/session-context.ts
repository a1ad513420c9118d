import type { Logger, Policy } from '@x/lock-core'
import type { Turn } from '@x/lock-core/adapter'
import type { SessionOptions } from '@x/pg-session'
import type { FencingChoice } from './fencing.ts'
import type { SharedMemoryBudget } from './memory-budget.ts'

/** What a session of locks (`S`) needs to know of its locker. */
export interface SessionContext<S> {
  readonly session: Omit<SessionOptions, 'signal' | 'settings' | 'requirePrimary'>
  readonly gate: bigint
  readonly channel: string
  readonly schema: string
  readonly fencing: FencingChoice
  readonly budget: SharedMemoryBudget
  readonly policy: Policy | undefined
  readonly logger: Logger | undefined
  /** The server has a lock back. `woken`: somebody in another session was told. */
  onFreed(turn: Turn, session: S, woken: boolean): void
  /** Everything in the session was lost. */
  onLost(session: S): void
  /** It was lost or closed, and is of no use any more. */
  onEnded(session: S): void
}
