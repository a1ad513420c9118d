import type { ClosedError } from '@x/lock-core'
import type { ResolvedAcquireOptions, Turn } from '@x/lock-core/adapter'
import type { AdvisoryLock } from './advisory-lock.ts'
import type { SharedMemoryBudget } from './memory-budget.ts'
import type { SessionLocks } from './session-locks.ts'
import { tryStep } from './session-operations.ts'
import type { Sessions } from './sessions.ts'

/** Asks the server for locks, once, for those whose turn it is. The turns stay theirs. */
export class Tries {
  readonly #sessions: Sessions
  readonly #budget: SharedMemoryBudget
  readonly #closed: () => ClosedError | null

  /** @param closed the error of a locker that was closed */
  constructor(sessions: Sessions, budget: SharedMemoryBudget, closed: () => ClosedError | null) {
    this.#sessions = sessions
    this.#budget = budget
    this.#closed = closed
  }

  /** The lock, or null when somebody else has it. */
  one(
    turn: Turn,
    { key, options }: { readonly key: string; readonly options: ResolvedAcquireOptions },
  ): Promise<AdvisoryLock | null> {
    return this.#inPlaces(1, async () => {
      const { session, result } = await this.#inSession((of) => of.submit(tryStep(options.mode), turn.key))
      return result === null ? null : session.grant(key, turn, result, options)
    })
  }

  /**
   * All in one statement, or null.
   * @param keys by id
   * @returns by id
   */
  all(
    turns: readonly Turn[],
    keys: ReadonlyMap<string, string>,
    options: ResolvedAcquireOptions,
  ): Promise<ReadonlyMap<string, AdvisoryLock> | null> {
    return this.#inPlaces(turns.length, async () => {
      const ids = turns.map((turn) => turn.key)
      const { session, result } = await this.#inSession((of) => of.tryAll(ids, options.mode))
      if (result === null) return null
      return new Map(turns.map((turn) => [turn.key, session.grant(keys.get(turn.key) ?? '', turn, result, options)]))
    })
  }

  /** Takes places in the server's lock table, which the locks that `run` brings keep. */
  async #inPlaces<T>(count: number, run: () => Promise<T | null>): Promise<T | null> {
    let placed = 0
    try {
      // How many there are is known from the first session on.
      if (this.#sessions.current === null) await this.#sessions.main()
      for (; placed < count; placed += 1) this.#budget.take()
      const result = await run()
      if (result !== null) return result
    } catch (error) {
      for (; placed > 0; placed -= 1) this.#budget.give()
      throw this.#closed() ?? error
    }
    for (; placed > 0; placed -= 1) this.#budget.give()
    this.#sessions.noteIdle()
    return null
  }

  /** A session from before may have died unnoticed. A new one tells; what the old one was granted died with it. */
  async #inSession<T>(run: (session: SessionLocks) => Promise<T>): Promise<{ session: SessionLocks; result: T }> {
    const known = this.#sessions.current
    let session = known ?? (await this.#sessions.main())
    let result: T
    try {
      result = await run(session)
    } catch (error) {
      if (known === null || session.isAlive() || this.#closed() !== null) throw error
      session = await this.#sessions.main()
      result = await run(session)
    }
    const closed = this.#closed()
    if (closed !== null) throw closed
    return { session, result }
  }
}
