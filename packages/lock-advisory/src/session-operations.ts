import type { LockMode, Policy } from '@x/lock-core'
import { type BatchLine, createBatchLine, monotonicNow } from '@x/lock-core/adapter'
import type { Row, Session } from '@x/pg-session'
import { decodeBatch, encodeBatch, type Operation, type Outcome, splitRepeatedTries } from './batch.ts'
import { InterestLedger } from './interest-ledger.ts'
import { type LockStatements, type Step, step } from './statements.ts'
import { underPolicy } from './under-policy.ts'

/** What the operations of a session need to know of it. */
export interface OperationsContext {
  readonly statements: LockStatements
  /** Two grants of one id must not share a statement where they would share a token. */
  readonly drawsTokens: boolean
  readonly policy: Policy | undefined
  isAlive(): boolean
  /** Whether a lock of the session lives under the id. */
  holds(id: string): boolean
  /** What the session holds is not known any more: it has to be given up. */
  onDoubt(cause: unknown): void
}

/** Operations that are issued while a statement is in flight go out together as the next one. */
export class SessionOperations {
  readonly #session: Session
  readonly #context: OperationsContext
  readonly #operations: BatchLine<Operation>
  /** The same, unless there is a policy: what it refuses must not keep a lock from being given back. */
  readonly #tries: BatchLine<Operation>
  readonly #interest: InterestLedger = new InterestLedger()

  constructor(session: Session, context: OperationsContext) {
    this.#session = session
    this.#context = context
    const { policy } = context
    this.#operations = createBatchLine({ run: (batch) => this.#run(batch) })
    this.#tries =
      policy === undefined ? this.#operations : createBatchLine({ run: (batch) => this.#runUnder(policy, batch) })
  }

  get isIdle(): boolean {
    return this.#operations.isIdle && this.#tries.isIdle
  }

  /** Resolves when nothing that gives back is on its way any more. */
  idle(): Promise<void> {
    return this.#operations.idle()
  }

  /** Whether what is submitted one after the other also runs in that order. */
  get keepsOrder(): boolean {
    return this.#tries === this.#operations
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
      ;[row] = await this.#session.query(this.#context.statements.tryAll, values)
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

  async #run(batch: readonly Operation[]): Promise<void> {
    const { statements } = this.#context
    const parts = this.#context.drawsTokens ? splitRepeatedTries(batch) : [batch]
    let exchanges = false
    try {
      for (const part of parts) {
        const { statement, values } = encodeBatch(part, statements)
        const sentAt = monotonicNow()
        const [row] = await this.#session.query(statement, [...values])
        decodeBatch(part, statement, statements, row, { sentAt, answeredAtMs: Date.now() })
        // Nothing else announces.
        if (statement === statements.exchange) exchanges = true
      }
      if (exchanges) await this.#withdrawAll(this.#interest.answered(batch))
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
    for (const { step: kind, id } of tries) {
      this.submit(isShared(kind) ? step.unlockShared : step.unlockExclusive, id).catch(() => {})
    }
  }

  /**
   * A rollback does not give back the locks that a session took before its statement failed, as it does where no token can
   * be drawn or the server's lock table is full; and which unlocks ran is not known either. Who asked is told of a failure, so
   * nothing may stay. Of an exclusive id the server can be asked; how often a session has a shared one it does not tell:
   * then the session is given up.
   */
  async #undoFailed(batch: readonly Pick<Operation, 'step' | 'id'>[], cause: unknown): Promise<void> {
    const { statements, isAlive, holds, onDoubt } = this.#context
    if (!isAlive()) return
    const ids = batch.filter(({ step }) => isExclusive(step)).map(({ id }) => id)
    if (!batch.some(({ step }) => isShared(step)) && !ids.some(holds)) {
      try {
        for (const id of ids) await this.#session.query(statements.unlockIfHeld, [id])
        await this.#withdrawAll(this.#interest.failed(batch))
        return
      } catch {
        // A session that cannot even do this is of no use.
      }
    }
    onDoubt(cause)
  }

  /** What is left of the interest in ids under which nothing stands. At worst others notify and count somebody in vain. */
  async #withdrawAll(ids: readonly string[]): Promise<void> {
    const { withdrawIfAnnounced } = this.#context.statements
    try {
      for (const id of ids) while ((await this.#session.query(withdrawIfAnnounced, [id]))[0]?.[0] === true);
    } catch {
      // The statement that it was about has been answered.
    }
  }
}

function isExclusive(kind: Step): boolean {
  return kind === step.tryExclusive || kind === step.unlockExclusive
}

function isShared(kind: Step): boolean {
  return kind === step.tryShared || kind === step.unlockShared
}

function isTry(kind: Step): boolean {
  return kind === step.tryExclusive || kind === step.tryShared
}

export function unlockStep(mode: LockMode): typeof step.unlockExclusive | typeof step.unlockShared {
  return mode === 'exclusive' ? step.unlockExclusive : step.unlockShared
}

export function tryStep(mode: LockMode): typeof step.tryExclusive | typeof step.tryShared {
  return mode === 'exclusive' ? step.tryExclusive : step.tryShared
}
