import { createExactController } from '../adapter/exact-signal.ts'
import type { DemotionReason, LeaderTerm } from '../leadership.ts'
import type { Lock, LockLostReason } from '../locker.ts'

type TermState = { readonly kind: 'current' } | { readonly kind: 'over'; readonly reason: DemotionReason }

/** One term, from the grant of its lock to its end; it ends once, and says why. */
export class OfficeTerm implements LeaderTerm {
  readonly number: number
  readonly lock: Lock
  readonly #controller = createExactController(() => this.isCurrent())
  readonly #ended = Promise.withResolvers<DemotionReason>()
  readonly #onEnd: () => void
  #state: TermState = { kind: 'current' }

  /** @param onEnd called synchronously at the end, before anybody else hears of it */
  constructor(number: number, lock: Lock, onEnd: () => void) {
    this.number = number
    this.lock = lock
    this.#onEnd = onEnd
    const { signal } = lock
    if (signal.aborted) this.#lost(signal)
    else signal.addEventListener('abort', () => this.#lost(signal), { once: true })
  }

  get fencingToken(): bigint | null {
    return this.lock.fencingToken
  }

  get electedAt(): Date {
    return this.lock.acquiredAt
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Resolves at the end of the term. */
  get ended(): Promise<DemotionReason> {
    return this.#ended.promise
  }

  isCurrent(): boolean {
    // Asking the lock makes it notice a deadline that has passed, which ends the term.
    return this.#state.kind === 'current' && this.lock.isHeld() && this.#state.kind === 'current'
  }

  /** Ends the term, unless it is over: its signal aborts before this returns. */
  end(reason: DemotionReason, cause: unknown = new DOMException(`the leader ${reason}`, 'AbortError')): void {
    if (this.#state.kind === 'over') return
    this.#state = { kind: 'over', reason }
    this.#onEnd()
    this.#controller.abort(cause)
    this.#ended.resolve(reason)
  }

  #lost(signal: AbortSignal): void {
    this.end(lossReason(signal.reason), signal.reason)
  }
}

function lossReason(error: unknown): LockLostReason {
  const reason = error instanceof Error && 'reason' in error ? error.reason : undefined
  switch (reason) {
    case 'session-ended':
    case 'lease-expired':
    case 'forced':
    case 'max-hold':
    case 'closed':
      return reason
    default:
      return 'deadline'
  }
}
