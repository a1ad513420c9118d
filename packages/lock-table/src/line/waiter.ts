import type { LockMode } from '@x/lock-core'
import type { Grant } from '../granting.ts'

/** How a place in line ended. */
export type LineOutcome =
  | Grant
  /** The line went on without us: our session had lapsed, or the claim time passed. Enter again. */
  | { readonly kind: 'passed-over' }

/** One place in a line. */
export interface Waiter {
  readonly key: string
  readonly ticket: string
  readonly owner: string
  readonly mode: LockMode
  /** Settles `outcome`. */
  readonly settle: (outcome: LineOutcome) => void
  /** The same, when nobody can learn how it ends. */
  readonly fail: (error: unknown) => void
  readonly outcome: Promise<LineOutcome>
}
