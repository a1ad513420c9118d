import type { Outcome } from '../batch.ts'
import type { SharedMemoryBudget } from '../memory-budget.ts'
import { type Step, step } from '../statements.ts'

/** Milliseconds that a line has to last before the server hears of it: most are over sooner. */
const noticeAfterMs = 25

/** What it needs of a session. */
export interface Announcer {
  submit(step: Step, id: string): Promise<Outcome | null>
}

/** An announcement that was sent, and whether the server has said that it stands. */
interface Announcement {
  readonly session: Announcer
  stands: boolean
}

/**
 * Shows other processes that somebody waits here behind a lock of this very process, which the server would not know
 * otherwise: `status().waiters` counts it. One announcement for each line, however long; it wakes nobody.
 */
export class LineNotice {
  readonly #session: () => Announcer | null
  readonly #isWaiting: (id: string) => boolean
  readonly #budget: SharedMemoryBudget
  readonly #pending = new Set<string>()
  readonly #announced = new Map<string, Announcement>()
  #timer: NodeJS.Timeout | undefined

  constructor(session: () => Announcer | null, isWaiting: (id: string) => boolean, budget: SharedMemoryBudget) {
    this.#session = session
    this.#isWaiting = isWaiting
    this.#budget = budget
  }

  /** Somebody stands in line for the id. */
  begin(id: string): void {
    if (this.#announced.has(id)) return
    this.#pending.add(id)
    this.#timer ??= setTimeout(this.#announce, noticeAfterMs).unref()
  }

  /** Nobody stands in line for the id any more. */
  end(id: string): void {
    this.#pending.delete(id)
    const announcement = this.#announced.get(id)
    if (announcement === undefined) return
    this.#announced.delete(id)
    this.#budget.give()
    if (announcement.stands) this.#withdraw(announcement, id)
  }

  sessionLost(session: Announcer): void {
    for (const [id, announcement] of this.#announced) {
      if (announcement.session !== session) continue
      this.#announced.delete(id)
      this.#budget.give()
      if (this.#isWaiting(id)) this.begin(id)
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#pending.clear()
  }

  readonly #announce = (): void => {
    this.#timer = undefined
    const session = this.#session()
    // A copy: without a session each id is put back, and a walk over the set itself would meet it again for ever.
    const pending = [...this.#pending]
    this.#pending.clear()
    for (const id of pending) {
      if (!this.#isWaiting(id)) continue
      if (session === null) this.begin(id)
      else if (this.#budget.tryTake()) this.#announceIn(session, id)
    }
  }

  #announceIn(session: Announcer, id: string): void {
    const announcement: Announcement = { session, stands: false }
    this.#announced.set(id, announcement)
    session.submit(step.announce, id).then(
      (outcome) => {
        const isOver = this.#announced.get(id) !== announcement
        if (outcome !== null) {
          announcement.stands = true
          if (isOver) this.#withdraw(announcement, id)
        } else if (!isOver) {
          // A releaser's probe was in the way.
          this.#announced.delete(id)
          this.#budget.give()
          this.begin(id)
        }
      },
      () => {},
    )
  }

  /**
   * Only what stands: interest is counted in a session, and one more withdrawal would take that of somebody who waits there
   * for other processes. No releaser would wake him.
   */
  #withdraw({ session }: Announcement, id: string): void {
    session.submit(step.withdraw, id).catch(() => {})
  }
}
