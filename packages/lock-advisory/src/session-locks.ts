import {
  ConnectionError,
  hasErrorCode,
  type LockLostReason,
  type LockMode,
  LockNotHeldError,
  UnsupportedError,
} from '@x/lock-core'
import { type LockFamily, LockHandle, monotonicNow, type ResolvedAcquireOptions, type Turn } from '@x/lock-core/adapter'
import { openSession, type Row, type Session, type Statement } from '@x/pg-session'
import type { AdvisoryLock, Grant } from './advisory-lock.ts'
import type { Operation, Outcome } from './batch.ts'
import { type FencingPlan, planFencing } from './fencing.ts'
import { HeldLocks } from './held-locks.ts'
import { greet } from './server-statements.ts'
import type { SessionContext } from './session-context.ts'
import { SessionOperations, unlockStep } from './session-operations.ts'
import { type LockStatements, lockStatements, type Step } from './statements.ts'

/** On top of those that make the server notice a vanished client: no name in a statement can be taken for another, and each
 * statement is planned once. */
const settings = { search_path: 'pg_catalog', plan_cache_mode: 'force_generic_plan' }

/** One dedicated connection and all locks that live in it. They share its fate: when it is lost, each of them is, at once. */
export class SessionLocks {
  /** As in the server's log (`%c` of log_line_prefix), so that every process sees the same. */
  readonly sessionId: string
  readonly fencing: FencingPlan
  readonly held: HeldLocks<AdvisoryLock> = new HeldLocks()
  readonly statements: LockStatements
  readonly #session: Session
  readonly #context: SessionContext<SessionLocks>
  readonly #operations: SessionOperations
  readonly #family: LockFamily<Grant>
  #ended = false
  /** Why no lock of this session is held any more, from the moment on when the first of them hears of it. */
  #loss: { readonly reason: LockLostReason; readonly cause: unknown } | null = null
  #resting = false
  #queries = 0

  private constructor(
    session: Session,
    sessionId: string,
    context: SessionContext<SessionLocks>,
    fencing: FencingPlan,
  ) {
    this.#session = session
    this.sessionId = sessionId
    this.#context = context
    this.fencing = fencing
    this.statements = lockStatements(context.gate, context.channel, fencing.drawToken)
    this.#operations = new SessionOperations(session, {
      statements: this.statements,
      drawsTokens: fencing.drawToken !== null,
      policy: context.policy,
      isAlive: () => this.isAlive(),
      holds: (id) => [...this.held].some((lock) => lock.grant.id === id),
      onDoubt: (cause) => this.#lose('session-ended', cause),
    })
    this.#family = {
      logger: context.logger,
      expiry: 'lease-expired',
      gone: 'session-ended',
      enforceTtl: true,
      settle: () => this.#settle(),
      hooks: {
        release: (lock) => this.#release(lock),
        // The ttl is this process's own promise: the server knows nothing of it. That the session lives was just checked.
        refresh: async () => {},
        lost: (lock) => this.#giveBack(lock),
      },
    }
    session.lost.addEventListener(
      'abort',
      () => this.#lose(monotonicNow() < session.trustedUntil ? 'session-ended' : 'deadline', session.lost.reason),
      { once: true },
    )
  }

  /**
   * @throws {PoolerDetectedError} @throws {ConnectionError}
   * @throws {UnsupportedError} for a standby, and for a server that grants advisory locks without keeping them
   */
  static async open(context: SessionContext<SessionLocks>, signal: AbortSignal): Promise<SessionLocks> {
    const session = await openSession({
      ...context.session,
      requirePrimary: true,
      settings,
      signal,
    })
    try {
      const [row] = await session.query(greet, [String(context.gate)])
      if (row?.[0] !== true) {
        throw new UnsupportedError(
          'this server accepts advisory locks and does not keep them, so they would exclude nobody; use @x/lock-table here',
        )
      }
      context.budget.learn(Number(row[1]))
      return new SessionLocks(
        session,
        String(row[2]),
        context,
        await planFencing(context.fencing, context.schema, session),
      )
    } catch (error) {
      await session.close()
      throw error
    }
  }

  get pid(): number {
    return this.#session.pid
  }

  /** Whether what lives here may be believed in. */
  isAlive(): boolean {
    this.#settle()
    return !this.#ended
  }

  /** Nothing is held here, and nothing is on its way. */
  isIdle(): boolean {
    return this.held.size === 0 && this.#queries === 0 && this.#operations.isIdle
  }

  /** As soon as nothing is on its way, and until it is used again, the connection does not keep the process running. */
  rest(): void {
    void this.#operations.idle().then(() => {
      if (this.#resting || this.#ended || !this.isIdle()) return
      this.#resting = true
      this.#session.keepProcess(false)
    })
  }

  async query<R extends Row = Row>(
    statement: Statement,
    values: unknown[],
    options?: { timeoutMs?: number },
  ): Promise<R[]> {
    this.#use()
    this.#queries += 1
    try {
      return await this.#session.query<R>(statement, values, options)
    } finally {
      this.#queries -= 1
    }
  }

  /** Sends the operation with the next statement, and resolves when its outcome is written on it. */
  join(operation: Operation): Promise<void> {
    this.#use()
    return this.#operations.join(operation)
  }

  /** The same for who wants the outcome: null where the operation did not succeed. */
  submit(step: Step, id: string): Promise<Outcome | null> {
    this.#use()
    return this.#operations.submit(step, id)
  }

  /** Whether what is submitted one after the other also runs in that order. */
  get keepsOrder(): boolean {
    return this.#operations.keepsOrder
  }

  /** Takes all ids or none in one statement: the outcome, or null. */
  async tryAll(ids: readonly string[], mode: LockMode): Promise<Outcome | null> {
    this.#use()
    this.#queries += 1
    try {
      return await this.#operations.tryAll(ids, mode)
    } finally {
      this.#queries -= 1
    }
  }

  /** Makes a lock of what the server granted. The caller has taken its place in the budget. */
  grant(
    key: string,
    turn: Turn,
    outcome: Pick<Outcome, 'token' | 'sentAt' | 'answeredAtMs' | 'size'>,
    options: ResolvedAcquireOptions,
  ): AdvisoryLock {
    const lock = new LockHandle<Grant>(
      {
        key,
        mode: options.mode,
        fencingToken: outcome.token,
        sessionId: this.sessionId,
        acquiredAtMs: outcome.answeredAtMs,
        startedAt: outcome.sentAt,
        ttlMs: options.ttlMs,
        maxHoldMs: options.maxHoldMs,
        grant: {
          turn,
          id: turn.key,
          metadata: options.metadata,
          batchSize: outcome.size,
          listed: false,
          previous: null,
          next: null,
        },
      },
      this.#family,
    )
    this.held.add(lock)
    return lock
  }

  /** Ends the connection. Locks that are still held are lost with the reason, and given back first while that is possible. */
  async close(reason: LockLostReason = 'closed', patienceMs = 1_000): Promise<void> {
    const giveBack = this.isAlive() && this.held.size > 0
    this.#loseAll({ reason, cause: undefined })
    if (giveBack) {
      // The server would free them as well, but it would wake nobody.
      const late = AbortSignal.timeout(patienceMs)
      await Promise.race([
        this.#operations.idle(),
        new Promise<void>((resolve) => late.addEventListener('abort', () => resolve(), { once: true })),
      ])
    }
    this.#ended = true
    this.#context.onEnded(this)
    await this.#session.close()
  }

  #use(): void {
    if (!this.#resting) return
    this.#resting = false
    this.#session.keepProcess(true)
  }

  #release(lock: AdvisoryLock): Promise<void> {
    const { turn, id } = lock.grant
    this.held.delete(lock)
    const operation: Operation = { step: unlockStep(lock.mode), id, outcome: null }
    return this.join(operation).then(
      () => {
        const { outcome } = operation
        this.#context.onFreed(turn, this, outcome?.woken?.has(id) ?? false)
        if (outcome !== null) return
        // The server says that this session does not hold it: this is not the session that was granted the lock.
        const error = notHeld(lock)
        this.#lose('session-ended', error)
        throw error
      },
      (error: unknown) => {
        this.#context.onFreed(turn, this, false)
        // The session broke before the answer. The server frees the lock with it; whether it was ours until now is unknown.
        throw hasErrorCode(error, 'CONNECTION') || hasErrorCode(error, 'CLOSED') ? notHeld(lock, error) : error
      },
    )
  }

  /** A lock that ended by itself: the server still has it, unless the session ended. */
  #giveBack(lock: AdvisoryLock): void {
    // A release that found out that the lock was gone has forgotten it already.
    if (!this.held.delete(lock)) return
    const { turn, id } = lock.grant
    if (this.#ended) {
      this.#context.onFreed(turn, this, false)
      return
    }
    this.submit(unlockStep(lock.mode), id).then(
      (outcome) => {
        this.#context.onFreed(turn, this, outcome?.woken?.has(id) ?? false)
        if (outcome === null) this.#lose('session-ended', notHeld(lock))
      },
      () => this.#context.onFreed(turn, this, false),
    )
  }

  /** Ends the belief in everything that lives here when nothing has proved for too long that the session lives. */
  #settle(): void {
    // Listeners run while the others are still being told; whoever asks then must not get another answer.
    if (this.#loss !== null) this.#loseAll(this.#loss)
    else if (!this.#ended && !this.#session.isAlive()) this.#lose('deadline', undefined)
  }

  #lose(reason: LockLostReason, cause: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#context.logger?.warn(
      { err: cause, pid: this.pid, locks: this.held.size, reason },
      'a session of advisory locks was lost, and every lock in it',
    )
    this.#loseAll({ reason, cause })
    this.#context.onEnded(this)
    this.#context.onLost(this)
    // It may still be there: as long as the server believes in it, its locks keep everybody out. Whoever is in the middle of
    // a statement must not take its end for that of the locker.
    this.#session.close(new ConnectionError(`the session was given up (${reason})`, { cause })).catch(() => {})
  }

  #loseAll(loss: { readonly reason: LockLostReason; readonly cause: unknown }): void {
    this.#loss = loss
    for (const lock of [...this.held]) lock.lose(loss.reason, loss.cause)
  }
}

function notHeld(lock: AdvisoryLock, cause?: unknown): LockNotHeldError {
  return new LockNotHeldError({ key: lock.key, operation: 'release' }, cause === undefined ? {} : { cause })
}
