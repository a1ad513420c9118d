import type { LockHandle, Turn } from '@x/lock-core/adapter'
import type { Links } from './held-locks.ts'

/** What a lock needs to be given back. */
export interface Grant extends Links<LockHandle<Grant>> {
  readonly turn: Turn
  readonly id: string
  readonly metadata: Readonly<Record<string, string>> | null
  /** Operations in the statement that was granted. */
  readonly batchSize: number
}

export type AdvisoryLock = LockHandle<Grant>
