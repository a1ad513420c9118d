import { ClosedError, type LockMode, LockTimeoutError } from '@x/lock-core'
import {
  type AcquireTrace,
  type ResolvedAcquireOptions,
  type Turn,
  type WaitLimit,
  WaitQueue,
} from '@x/lock-core/adapter'
import type { AdvisoryLock } from './advisory-lock.ts'
import type { Operation } from './batch.ts'
import { GivingUp } from './giving-up.ts'
import type { SharedMemoryBudget } from './memory-budget.ts'
import type { SessionLocks } from './session-locks.ts'
import { tryStep } from './session-operations.ts'
import type { Sessions } from './sessions.ts'
import { Tries } from './tries.ts'
import { LineNotice } from './waiting/line-notice.ts'
import { isOutage } from './waiting/outlast.ts'
import type { Granted, Wait, Waiting } from './waiting/waiting.ts'

/** One lock that somebody wants. */
export interface WantedLock {
  readonly key: string
  readonly id: string
  readonly options: ResolvedAcquireOptions
}

/** What acquiring is made of. */
export interface AcquiringParts {
  readonly sessions: Sessions
  readonly waiting: Waiting
  readonly budget: SharedMemoryBudget
}

/** Milliseconds, ± 50 %, for which nobody of this process goes for a lock whose end others were just told of. */
const courtesyMs = 2

/**
 * The way to a lock: its turn within the process, a try, and the wait for other processes. A session could take its own
 * lock again, so each id has one owner in the process, and only he asks the server.
 */
export class Acquiring {
  readonly #sessions: Sessions
  readonly #waiting: Waiting
  readonly #budget: SharedMemoryBudget
  readonly #queue = new WaitQueue()
  readonly #tries: Tries
  readonly #notice: LineNotice
  readonly #givingUp: GivingUp
  /** By id: heads of their lines, who wait for other processes. */
  readonly #heads = new Map<string, number>()
  #closed: ClosedError | null = null

  constructor({ sessions, waiting, budget }: AcquiringParts) {
    this.#sessions = sessions
    this.#waiting = waiting
    this.#budget = budget
    this.#givingUp = new GivingUp(() => sessions.noteIdle())
    this.#tries = new Tries(sessions, budget, () => this.#closed)
    this.#notice = new LineNotice(
      () => sessions.current,
      (id) => this.#queue.waiting(id) > 0,
      budget,
    )
  }

  /** Whether nobody waits. */
  get isIdle(): boolean {
    return this.#givingUp.isIdle
  }

  /** The keys of all who wait. */
  waitedFor(): Iterable<string> {
    return this.#givingUp.keys()
  }

  /** Who waits for the id here. What the server shows of them is not counted besides: it sees one for each session. */
  waiters(id: string): number {
    return this.#queue.waiting(id) + (this.#heads.get(id) ?? 0)
  }

  async try(wanted: WantedLock, trace: AcquireTrace | null): Promise<AdvisoryLock | null> {
    const { key, id, options } = wanted
    const turn = this.#queue.tryEnter(id, options.mode) ?? (await this.#enterNow(id, options.mode))
    if (turn === null) return null
    // Here and not after the wait: who gives up before the answer is there does not come back for his turn.
    const attempt = this.#tries.one(turn, wanted).then(
      (lock) => {
        if (lock === null) turn.leave()
        return lock
      },
      (error: unknown) => {
        turn.leave()
        throw error
      },
    )
    const lock = await (options.signal === undefined
      ? attempt
      : this.#givingUp.limited({ keys: [key], ids: [id], options }, () => attempt, dispose))
    if (lock !== null && trace !== null) trace.batchSize = lock.grant.batchSize
    return lock
  }

  /** All or none; ids that are named twice are one lock. */
  async tryAll(
    keys: readonly string[],
    ids: readonly string[],
    options: ResolvedAcquireOptions,
  ): Promise<readonly AdvisoryLock[] | null> {
    const distinct = new Map<string, string>()
    for (const [index, id] of ids.entries()) if (!distinct.has(id)) distinct.set(id, keys[index] ?? '')
    const attempt = this.#attemptAll(distinct, options)
    const locks = await (options.signal === undefined
      ? attempt
      : this.#givingUp.limited(
          { keys, ids, options },
          () => attempt,
          (late) => Promise.all([...(late ?? new Map()).values()].map(dispose)),
        ))
    return locks === null ? null : ids.flatMap((id) => locks.get(id) ?? [])
  }

  /** Most acquires find the lock free: they pay for no timer and no listener. */
  acquire(wanted: WantedLock, trace: AcquireTrace | null): Promise<AdvisoryLock> {
    const { key, id, options } = wanted
    const turn = this.#queue.tryEnter(id, options.mode)
    const unlimited = options.signal === undefined && options.waitTimeoutMs === Number.POSITIVE_INFINITY
    const session = this.#sessions.current
    if (turn === null || !unlimited || session === null) {
      return this.#acquireSlowly(turn, wanted, trace, session !== null)
    }
    try {
      this.#budget.take()
    } catch (error) {
      turn.leave()
      return Promise.reject(error)
    }
    const operation: Operation = { step: tryStep(options.mode), id, outcome: null }
    return session.join(operation).then(
      () => {
        const { outcome } = operation
        if (outcome !== null && this.#closed === null) {
          if (trace !== null) trace.batchSize = outcome.size
          return session.grant(key, turn, outcome, options)
        }
        this.#budget.give()
        return this.#acquireSlowly(turn, wanted, trace, true)
      },
      () => {
        // Whether a new session does better is found out there.
        this.#budget.give()
        return this.#acquireSlowly(turn, wanted, trace, true)
      },
    )
  }

  /** The server has a lock back. `woken`: somebody in another session was told. */
  freed(turn: Turn, session: SessionLocks, woken: boolean): void {
    this.#budget.give()
    this.#waiting.freed(session)
    this.#sessions.noteIdle()
    // Those who were told in other processes need a moment to come; without it, who is here would always be first.
    if (woken) setTimeout(() => turn.leave(), courtesyMs * (0.5 + Math.random()))
    else turn.leave()
  }

  sessionLost(session: SessionLocks): void {
    this.#waiting.sessionLost(session)
    this.#notice.sessionLost(session)
  }

  /** Rejects all who wait. */
  close(error: ClosedError): void {
    this.#closed = error
    this.#notice.close()
    this.#queue.rejectAll(() => error)
    this.#givingUp.end(error)
  }

  /** @param hadSession whether there was a session when it was asked for */
  async #acquireSlowly(
    early: Turn | null,
    wanted: WantedLock,
    trace: AcquireTrace | null,
    hadSession: boolean,
  ): Promise<AdvisoryLock> {
    const { key, id, options } = wanted
    let turn = early
    if (turn === null && options.waitTimeoutMs === 0) {
      turn = await this.#enterNow(id, options.mode)
      if (turn === null) throw new LockTimeoutError({ key, waitTimeoutMs: 0 })
    }
    const what = { keys: [key], ids: [id], options }
    const lock = await this.#givingUp.limited(what, (limit) => this.#wait(turn, wanted, limit, hadSession), dispose)
    if (trace !== null) trace.batchSize = lock.grant.batchSize
    return lock
  }

  /**
   * The turn, unless somebody has it. Who gave up may have it while a statement of his is on its way. To say "taken" because
   * of that would be wrong: what he may get is given back in a moment.
   */
  async #enterNow(id: string, mode: LockMode): Promise<Turn | null> {
    for (;;) {
      const turn = this.#queue.tryEnter(id, mode)
      if (turn !== null) return turn
      const leftovers = this.#givingUp.leftovers(id)
      if (leftovers === undefined) return null
      await leftovers
    }
  }

  /** By id; the keys are those under which the ids are wanted. Settles with the turns left, unless there are locks. */
  async #attemptAll(
    keys: ReadonlyMap<string, string>,
    options: ResolvedAcquireOptions,
  ): Promise<ReadonlyMap<string, AdvisoryLock> | null> {
    const turns: Turn[] = []
    let locks: ReadonlyMap<string, AdvisoryLock> | null = null
    try {
      for (const id of keys.keys()) {
        const turn = await this.#enterNow(id, options.mode)
        if (turn === null) return null
        turns.push(turn)
      }
      locks = await this.#tries.all(turns, keys, options)
      return locks
    } finally {
      if (locks === null) for (const turn of turns) turn.leave()
    }
  }

  /** Waits for the turn, unless it has it, and then for other processes. Rejects with the turn left. */
  async #wait(early: Turn | null, wanted: WantedLock, limit: WaitLimit, hadSession: boolean): Promise<AdvisoryLock> {
    const { key, id, options } = wanted
    const turn = early ?? (await this.#standInLine(id, options.mode, limit))
    try {
      if (early !== null || this.#waiting.triesFirst) {
        limit.asked()
        try {
          const lock = await this.#tries.one(turn, wanted)
          if (lock !== null) return lock
          limit.answered()
        } catch (error) {
          // Who finds no server is told so. Whom it leaves in the middle waits for its return, as do those in line.
          const patient = options.waitTimeoutMs > 0 && (hadSession || early === null)
          if (!patient || !isOutage(error)) throw error
        }
      }
      if (options.waitTimeoutMs === 0) throw new LockTimeoutError({ key, waitTimeoutMs: 0 })
      return await this.#waitForOthers({ id, mode: options.mode, limit }, turn, wanted)
    } catch (error) {
      turn.leave()
      this.#sessions.noteIdle()
      throw error
    }
  }

  async #standInLine(id: string, mode: LockMode, limit: WaitLimit): Promise<Turn> {
    const entering = this.#queue.enter(id, mode, limit)
    if (this.#queue.waiting(id) > 0) this.#notice.begin(id)
    try {
      return await entering
    } finally {
      if (this.#queue.waiting(id) === 0) this.#notice.end(id)
    }
  }

  async #waitForOthers(wait: Wait, turn: Turn, { key, options }: WantedLock): Promise<AdvisoryLock> {
    const { id, limit } = wait
    limit.throwIfOver()
    this.#budget.take()
    this.#heads.set(id, (this.#heads.get(id) ?? 0) + 1)
    try {
      const granted: Granted | null = await this.#waiting.wait(wait)
      if (granted === null) throw limit.over()?.error ?? new ClosedError('advisory locker')
      if (this.#closed !== null) throw this.#closed
      return granted.session.grant(key, turn, granted.outcome, options)
    } catch (error) {
      this.#budget.give()
      throw error
    } finally {
      const left = (this.#heads.get(id) ?? 1) - 1
      if (left === 0) this.#heads.delete(id)
      else this.#heads.set(id, left)
    }
  }
}

async function dispose(late: AdvisoryLock | null): Promise<void> {
  await late?.[Symbol.asyncDispose]()
}
