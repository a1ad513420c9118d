import {
  hasErrorCode,
  type LockLostReason,
  type LockMode,
  LockNotHeldError,
  type Logger,
  type Policy,
  UnsupportedError,
} from '@x/lock-core'
import {
  type BatchLine,
  createBatchLine,
  type LockFamily,
  LockHandle,
  monotonicNow,
  type ResolvedAcquireOptions,
  type Turn,
} from '@x/lock-core/adapter'
import { openSession, type Row, type Session, type SessionOptions } from '@x/pg-session'
import { decodeBatch, encodeBatch, type Operation, type Outcome, splitRepeatedTries } from './batch.ts'
import { type FencingChoice, type FencingPlan, planFencing } from './fencing.ts'
import { HeldLocks, type Links } from './held-locks.ts'
import type { SharedMemoryBudget } from './memory-budget.ts'
import { greet, type LockStatements, lockStatements, type Step, step } from './statements.ts'

/** What a session of locks needs to know of its locker. */
export interface SessionContext {
  readonly session: Omit<SessionOptions, 'signal' | 'settings' | 'requirePrimary'>
  readonly gate: bigint
  readonly channel: string
  readonly schema: string
  readonly fencing: FencingChoice
  readonly budget: SharedMemoryBudget
  readonly policy: Policy | undefined
  readonly logger: Logger | undefined
  /** The server has a lock back. `woken`: somebody in another session was told. */
  onFreed(turn: Turn, session: SessionLocks, woken: boolean): void
  /** Everything in the session was lost; it is of no use any more. */
  onLost(session: SessionLocks): void
}

/** What a lock needs to be given back. */
export interface Grant extends Links<LockHandle<Grant>> {
  readonly session: SessionLocks
  readonly turn: Turn
  readonly id: string
  readonly metadata: Readonly<Record<string, string>> | null
  /** Operations in the statement that was granted. */
  readonly batchSize: number
}

export type AdvisoryLock = LockHandle<Grant>

/** On top of those that make the server notice a vanished client: no name in a statement can be taken for another, and each
 * statement is planned once. */
const settings = { search_path: 'pg_catalog', plan_cache_mode: 'force_generic_plan' }

/**
 * One dedicated connection and all locks that live in it. Operations that are issued while a statement is in flight go
 * out together as the next one. All locks share the fate of the session: when it is lost, each of them is, at once.
 */
export class SessionLocks {
  /** As in the server's log (`%c` of log_line_prefix), so that every process sees the same. */
  readonly sessionId: string
  readonly fencing: FencingPlan
  readonly held: HeldLocks<AdvisoryLock> = new HeldLocks()
  readonly statements: LockStatements
  readonly #session: Session
  readonly #context: SessionContext
  readonly #operations: BatchLine<Operation>
  /** The same, unless there is a policy: what it refuses must not keep a lock from being given back. */
  readonly #tries: BatchLine<Operation>
  readonly #family: LockFamily<Grant>
  #ended = false
  /** Why no lock of this session is held any more, from the moment on when the first of them hears of it. */
  #loss: { readonly reason: LockLostReason; readonly cause: unknown } | null = null

  private constructor(session: Session, sessionId: string, context: SessionContext, fencing: FencingPlan) {
    this.#session = session
    this.sessionId = sessionId
    this.#context = context
    this.fencing = fencing
    this.statements = lockStatements(context.gate, context.channel, fencing.drawToken)
    const { policy } = context
    this.#operations = createBatchLine({ run: (batch) => this.#run(batch) })
    this.#tries =
      policy === undefined ? this.#operations : createBatchLine({ run: (batch) => this.#runUnder(policy, batch) })
    this.#family = {
      logger: context.logger,
      expiry: 'lease-expired',
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
  static async open(context: SessionContext, signal: AbortSignal): Promise<SessionLocks> {
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

  /** Aborts when the session is lost, not when it is closed. */
  get lost(): AbortSignal {
    return this.#session.lost
  }

  get query(): Session['query'] {
    return this.#session.query.bind(this.#session)
  }

  /** Whether what lives here may be believed in. */
  isAlive(): boolean {
    this.#settle()
    return !this.#ended
  }

  /** Sends the operation with the next statement, and resolves when its outcome is written on it. */
  join(operation: Operation): Promise<void> {
    return (isTry(operation.step) ? this.#tries : this.#operations).join(operation)
  }

  /** The same for who wants the outcome: null where the operation did not succeed. */
  async submit(step: Step, id: string): Promise<Outcome | null> {
    const operation: Operation = { step, id, outcome: null }
    await this.join(operation)
    return operation.outcome
  }

  /** Whether what is submitted one after the other also runs in that order. */
  get keepsOrder(): boolean {
    return this.#tries === this.#operations
  }

  /** Takes all ids or none in one statement: the outcome, or null. */
  async tryAll(ids: readonly string[], mode: LockMode): Promise<Outcome | null> {
    const { policy } = this.#context
    const send = (): Promise<Outcome | null> => this.#sendAll(ids, mode)
    if (policy === undefined) return send()
    const operations = ids.map((id): Operation => ({ step: tryStep(mode), id, outcome: null }))
    return underPolicy(policy, send, (outcome) => {
      if (outcome !== null) this.#unlock(operations)
    })
  }

  async #sendAll(ids: readonly string[], mode: LockMode): Promise<Outcome | null> {
    const sentAt = monotonicNow()
    const values = [`{${ids.join(',')}}`, mode === 'shared' ? 't' : 'f']
    let row: Row | undefined
    try {
      ;[row] = await this.#session.query(this.statements.tryAll, values)
    } catch (error) {
      await this.#undoFailed(
        ids.map((id) => ({ step: tryStep(mode), id })),
        error,
      )
      throw error
    }
    if (row?.[0] !== true) return null
    const token = typeof row[1] === 'string' ? BigInt(row[1]) : null
    return { token, sentAt, answeredAtMs: Date.now(), size: ids.length, woken: null }
  }

  /** Nothing is held here, and nothing is on its way. */
  isIdle(): boolean {
    return this.held.size === 0 && this.#operations.isIdle && this.#tries.isIdle
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
          session: this,
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
    await this.#session.close()
  }

  async #run(batch: readonly Operation[]): Promise<void> {
    const parts = this.fencing.drawToken === null ? [batch] : splitRepeatedTries(batch)
    try {
      for (const part of parts) {
        const { statement, values } = encodeBatch(part, this.statements)
        const sentAt = monotonicNow()
        const [row] = await this.#session.query(statement, [...values])
        decodeBatch(part, statement, this.statements, row, { sentAt, answeredAtMs: Date.now() })
      }
    } catch (error) {
      await this.#undoFailed(batch, error)
      throw error
    }
  }

  async #runUnder(policy: Policy, batch: readonly Operation[]): Promise<void> {
    const send = async (): Promise<readonly Operation[]> => {
      // Its own: outcomes of two attempts must not be written over each other.
      const attempt = batch.map(({ step, id }): Operation => ({ step, id, outcome: null }))
      await this.#run(attempt)
      return attempt
    }
    const heard = await underPolicy(policy, send, (attempt) =>
      this.#unlock(attempt.filter(({ outcome }) => outcome !== null)),
    )
    for (const [index, operation] of batch.entries()) operation.outcome = heard[index]?.outcome ?? null
  }

  /** Gives back what tries were granted of which nobody was told. */
  #unlock(tries: readonly Operation[]): void {
    for (const { step, id } of tries) this.submit(unlockOf(step), id).catch(() => {})
  }

  /**
   * A rollback does not give back the locks that a session took before its statement failed, as it does where no token can
   * be drawn or the server's lock table is full; and which unlocks ran is not known either. Who asked is told of a failure, so
   * nothing may stay. Of an exclusive id the server can be asked; how often a session has a shared one it does not tell:
   * then the session is given up.
   */
  async #undoFailed(batch: readonly Pick<Operation, 'step' | 'id'>[], cause: unknown): Promise<void> {
    if (!this.isAlive()) return
    const ids = batch.filter(({ step }) => isExclusive(step)).map(({ id }) => id)
    const held = new Set([...this.held].map((lock) => lock.grant.id))
    if (!batch.some(({ step }) => isShared(step)) && !ids.some((id) => held.has(id))) {
      try {
        for (const id of ids) await this.#session.query(this.statements.unlockIfHeld, [id])
        return
      } catch {
        // A session that cannot even do this is of no use.
      }
    }
    this.#lose('session-ended', cause)
  }

  #release(lock: AdvisoryLock): Promise<void> {
    const { turn, id } = lock.grant
    this.held.delete(lock)
    const operation: Operation = { step: unlockStep(lock.mode), id, outcome: null }
    return this.#operations.join(operation).then(
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
    this.#context.onLost(this)
    // It may still be there: as long as the server believes in it, its locks keep everybody out.
    this.#session.close().catch(() => {})
  }

  #loseAll(loss: { readonly reason: LockLostReason; readonly cause: unknown }): void {
    this.#loss = loss
    for (const lock of [...this.held]) lock.lose(loss.reason, loss.cause)
  }
}

function notHeld(lock: AdvisoryLock, cause?: unknown): LockNotHeldError {
  return new LockNotHeldError({ key: lock.key, operation: 'release' }, cause === undefined ? {} : { cause })
}

/**
 * A policy may give up on a statement with which the server goes on, or send it a second time. Calls `giveBack` with the
 * result of each attempt that is not the one which the policy passed on.
 */
async function underPolicy<T>(policy: Policy, send: () => Promise<T>, giveBack: (unheard: T) => void): Promise<T> {
  const execution: Promise<T> = (async () =>
    policy.execute(() => {
      const attempt = send()
      attempt.then(
        async (result) => {
          const heard = await execution.catch(() => null)
          if (result !== heard) giveBack(result)
        },
        () => {},
      )
      return attempt
    }))()
  return execution
}

function isExclusive(kind: Step): boolean {
  return kind === step.tryExclusive || kind === step.unlockExclusive
}

function isShared(kind: Step): boolean {
  return kind === step.tryShared || kind === step.unlockShared
}

function unlockOf(kind: Step): typeof step.unlockExclusive | typeof step.unlockShared {
  return isShared(kind) ? step.unlockShared : step.unlockExclusive
}

function isTry(kind: Step): boolean {
  return kind === step.tryExclusive || kind === step.tryShared
}

function unlockStep(mode: LockMode): typeof step.unlockExclusive | typeof step.unlockShared {
  return mode === 'exclusive' ? step.unlockExclusive : step.unlockShared
}

export function tryStep(mode: LockMode): typeof step.tryExclusive | typeof step.tryShared {
  return mode === 'exclusive' ? step.tryExclusive : step.tryShared
}
