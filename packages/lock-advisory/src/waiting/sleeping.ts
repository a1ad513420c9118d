import type { Outcome } from '../batch.ts'
import type { SharedMemoryBudget } from '../memory-budget.ts'
import type { SessionLocks } from '../session-locks.ts'
import { tryStep } from '../session-operations.ts'
import { step } from '../statements.ts'
import { Alarm } from './alarm.ts'
import type { Bell } from './bell.ts'
import { outlast } from './outlast.ts'
import type { Granted, Wait, Waiting, WaitingContext } from './waiting.ts'

/** How often an announcement that met a releaser's probe is repeated at once, before the next look at `pollMs`. */
const quickRepeats = 10

/** Milliseconds over which the processes that one release has woken spread their tries. */
const spreadMs = 1

/**
 * Waits by sleeping between tries (`notify` with a bell, `poll` without). The order is what loses no wake-up: interest is
 * announced, then the lock is tried, then the waiter sleeps; a releaser unlocks, then probes for interest. Both write
 * before they read, in one lock table. Before the bell's first ring everybody tries once more, because an announcement
 * made before LISTEN took effect was answered to nobody. The poll stands behind holders that died and told nobody.
 */
export class Sleeping implements Waiting {
  readonly triesFirst: boolean = true
  readonly #context: WaitingContext
  readonly #budget: SharedMemoryBudget
  readonly #gate: string
  readonly #bell: Bell | null
  readonly #alarms = new Map<Alarm, SessionLocks | null>()

  constructor(context: WaitingContext, budget: SharedMemoryBudget, gate: bigint, bell: Bell | null) {
    this.#context = context
    this.#budget = budget
    this.#gate = String(gate)
    this.#bell = bell
  }

  async wait(wait: Wait): Promise<Granted | null> {
    using alarm = new Alarm(wait.limit)
    const unhear = this.#bell?.hear(wait.id, alarm.ring)
    // Interest takes a slot of the server's lock table as well. Without room for it the poll is all there is.
    const announces = this.#budget.tryTake()
    try {
      const { outage } = this.#context
      return await outlast(wait.limit, alarm, outage, async () => {
        const session = await this.#context.session()
        this.#alarms.set(alarm, session)
        outage.end()
        return this.#waitIn(session, wait, alarm, announces)
      })
    } finally {
      this.#alarms.delete(alarm)
      if (announces) this.#budget.give()
      unhear?.()
    }
  }

  sessionLost(session: SessionLocks): void {
    for (const [alarm, of] of this.#alarms) if (of === session) alarm.ring()
  }

  freed(): void {}

  async close(): Promise<void> {
    await this.#bell?.close()
  }

  async #waitIn(session: SessionLocks, wait: Wait, alarm: Alarm, announces: boolean): Promise<Granted | null> {
    const wanted = announces ? (this.#bell === null ? [wait.id] : [this.#gate, wait.id]) : []
    const announced = new Set<string>()
    try {
      for (let repeats = 0; ; ) {
        alarm.clear()
        const outcome = await this.#announceAndTry(session, wait, wanted, announced)
        if (outcome !== null) return { session, outcome }
        wait.limit.answered()
        if (wait.limit.over() !== undefined) return null
        if (announced.size < wanted.length && repeats < quickRepeats) {
          repeats += 1
          await alarm.sleep(Math.random() * 2)
        } else if (await alarm.sleep(this.#context.pollMs * (0.9 + Math.random() * 0.2))) {
          repeats = 0
          if (wait.limit.over() !== undefined) return null
          await this.#spread(alarm)
        }
      }
    } finally {
      for (const id of announced) session.submit(step.withdraw, id).catch(() => {})
    }
  }

  /** The announcements that are still missing, then the try: in one statement, unless a policy has a say in tries alone. */
  async #announceAndTry(
    session: SessionLocks,
    wait: Wait,
    wanted: readonly string[],
    announced: Set<string>,
  ): Promise<Outcome | null> {
    const announcements = wanted
      .filter((id) => !announced.has(id))
      .map(async (id) => {
        if ((await session.submit(step.announce, id)) !== null) announced.add(id)
      })
    if (!session.keepsOrder) await Promise.all(announcements)
    const [outcome] = await Promise.all([session.submit(tryStep(wait.mode), wait.id), ...announcements])
    return outcome
  }

  async #spread(alarm: Alarm): Promise<void> {
    const pauseMs = Math.random() * spreadMs
    if (pauseMs < spreadMs / 2) return
    alarm.clear()
    await alarm.sleep(pauseMs)
  }
}
