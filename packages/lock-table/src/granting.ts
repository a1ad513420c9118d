import { CoordinationError, type LockMode, QueryError } from '@x/lock-core'
import { type Coalescer, createCoalescer, monotonicNow } from '@x/lock-core/adapter'
import type { Statement } from '@x/pg-session'
import { plainArray, textArray } from './array-literal.ts'
import type { Contention } from './contention.ts'
import { type FreeAnswer, tokensFor } from './free-answer.ts'
import { Lanes } from './lanes.ts'
import { isTransient, type LockStore } from './store.ts'

/** A request, and what came of the attempt at a free key. */
interface FreeAttempt {
  readonly request: GrantRequest
  grant: Grant | undefined
}

/** What is asked of the database for one grant. */
export interface GrantRequest {
  readonly key: string
  /**
   * Names this grant of the key, and no other; the same when the answer was lost and it is asked for again. Grants of one
   * statement share it.
   */
  owner: string
  readonly mode: LockMode
  readonly ttlMs: number
  readonly metadata: string | null
}

/** A lease as the database gave it. */
export interface Grant {
  readonly kind: 'granted'
  readonly token: bigint
  readonly acquiredAtMs: number
  /** From before the request was sent. */
  readonly startedAt: number
  /** Milliseconds of the lease that are left, counted from `startedAt`; never more than there are. */
  readonly leaseMs: number
  /** It came out of a line: the lease is a claim yet, and others may stand behind it. */
  readonly handedOver: boolean
}

export type GrantOutcome =
  | Grant
  /** Held by somebody, or there is a line. */
  | { readonly kind: 'held' }
  /** Held by nobody, but those who stand in line come first: the hand-off is due. */
  | { readonly kind: 'stalled' }
  /** Free, and still not granted: somebody was faster, or a failover keeps everybody waiting. */
  | { readonly kind: 'refused' }

/** What came of one request of a batch. */
type BatchOutcome = GrantOutcome | { readonly kind: 'failed'; readonly error: unknown }

/** Who the holder is, as others see it. */
export interface Acquirer {
  readonly name: string
  readonly address: string | null
}

export interface GrantSettings {
  readonly acquirer: Acquirer
  readonly clockMarginMs: number
  readonly afterFailover: 'wait' | 'grant'
  newOwner(): string
  /** Nobody waits any more for what became of these; they may have been granted. */
  forsaken(requests: readonly GrantRequest[]): void
}

type OneRow = readonly [token: string, acquiredAtMs: string]
type GrantRow = readonly [key: string, state: string | null, token: string | null, acquiredAtMs: string | null]

/** From this size on a statement is planned for the table as it is now, and not as it was when it was prepared. */
const manyFrom = 32

/** So many keys fill a statement; while the server is at it, the next one is on its way. */
const fullBatch = 256

/** A batch that a planner still thinks too small to compile. */
const largestBatch = 2_000

/** Milliseconds for each attempt: an answer that does not come leaves time for another. */
const attemptMs: readonly number[] = [1_500, 2_500, 4_000]

/** With this division_by_zero the statement for many keys undoes itself when somebody was faster with one of them. */
const undone = '22012'

const held: GrantOutcome = { kind: 'held' }
const stalled: GrantOutcome = { kind: 'stalled' }
const refused: GrantOutcome = { kind: 'refused' }

/** Grants, as many as are asked for at one time in one statement. */
export class Granting {
  readonly #store: LockStore
  readonly #settings: GrantSettings
  readonly #contention: Contention
  readonly #free: Lanes<FreeAttempt>
  readonly #exclusive: Coalescer<GrantRequest, BatchOutcome>
  readonly #shared: Coalescer<GrantRequest, BatchOutcome>

  constructor(store: LockStore, contention: Contention, settings: GrantSettings) {
    this.#store = store
    this.#settings = settings
    this.#contention = contention
    const { grant, grantShared, grantMany, grantSharedMany } = store.statements
    const byReason = (few: Statement, many: Statement) => (batch: readonly GrantRequest[]) =>
      this.#grantApart(batch.length < manyFrom ? few : many, batch)
    const coalesce = (run: (batch: readonly GrantRequest[]) => Promise<readonly BatchOutcome[]>) =>
      createCoalescer({ identityOf: (request: GrantRequest) => request.key, maxBatch: largestBatch, run })
    this.#free = new Lanes({ run: (batch) => this.#grantFree(batch), fullAt: fullBatch, lanes: 4 })
    this.#exclusive = coalesce(byReason(grant, grantMany))
    this.#shared = coalesce(byReason(grantShared, grantSharedMany))
  }

  /** Whether {@link attemptFree} has a chance, as far as is known without asking. */
  mayBeFree(request: GrantRequest): boolean {
    return request.mode === 'exclusive' && this.#store.admits(request.ttlMs) && !this.#contention.remembers(request.key)
  }

  /**
   * One attempt at a key that is thought to be free, for one round trip and no more work than it takes. Undefined when it is
   * not free, or no answer came: {@link attempt} knows why.
   */
  async attemptFree(request: GrantRequest): Promise<Grant | undefined> {
    const attempt: FreeAttempt = { request, grant: undefined }
    await this.#free.join(attempt)
    return attempt.grant
  }

  /** One attempt. Contention is an outcome, not an error. */
  async attempt(request: GrantRequest): Promise<GrantOutcome> {
    if (!this.#store.admits(request.ttlMs)) await this.#store.admit(request.ttlMs)
    if (await this.#contention.isHeld(request.key, request.mode)) return held
    const outcome = await (request.mode === 'exclusive' ? this.#exclusive : this.#shared).submit(request)
    if (outcome.kind === 'failed') throw outcome.error
    if (outcome.kind === 'held') this.#contention.remember(request.key)
    return outcome
  }

  /** Resolves when no attempt is on its way. */
  async idle(): Promise<void> {
    await Promise.all([this.#free.idle(), this.#exclusive.idle(), this.#shared.idle()])
  }

  /** All or none, in one statement of its own. */
  async attemptAll(requests: readonly GrantRequest[], mode: LockMode): Promise<readonly Grant[] | null> {
    for (const request of requests) await this.#store.admit(request.ttlMs)
    const { grantAll, grantAllShared } = this.#store.statements
    const outcomes = await this.#grant(mode === 'exclusive' ? grantAll : grantAllShared, requests).catch(
      (error: unknown): readonly GrantOutcome[] => {
        if (error instanceof QueryError && error.sqlState === undone) return []
        throw error
      },
    )
    const grants = outcomes.filter((outcome): outcome is Grant => outcome.kind === 'granted')
    return grants.length === requests.length ? grants : null
  }

  /** Writes on each what it was granted, and nothing on those that are not free or whose answer was lost. */
  async #grantFree(batch: readonly FreeAttempt[]): Promise<void> {
    const [alone] = batch
    if (alone === undefined || (batch.length > 1 && !this.#store.hasFunctions)) return
    const { name, address } = this.#settings.acquirer
    const others = [name, address, this.#settings.clockMarginMs, this.#settings.afterFailover === 'grant']
    let sent = false
    const limits = { timeoutMs: attemptMs[0], onSend: () => (sent = true) }
    const startedAt = monotonicNow()
    try {
      if (batch.length === 1) {
        const { key, owner, ttlMs, metadata } = alone.request
        const values = [key, owner, ttlMs, metadata, ...others]
        const [row] = await this.#store.query<OneRow>(this.#store.statements.grantOne, values, limits)
        if (row !== undefined) alone.grant = grantOf(alone.request, row[0], Number(row[1]), startedAt)
        return
      }
      // In the order in which the rows are found, as a rule.
      const sorted = batch.toSorted((one, other) => (one.request.key < other.request.key ? -1 : 1))
      const requests = sorted.map(({ request }) => request)
      const { grantAlike, grantFree } = this.#store.statements
      const alike = areAlike(requests)
      const columns = alike ? together(requests, this.#settings.newOwner()) : columnsOf(requests)
      const values = [...columns, ...others]
      const [row] = await this.#store.query<FreeAnswer>(alike ? grantAlike : grantFree, values, limits)
      if (row === undefined) return
      const tokens = tokensFor(
        requests.map(({ key }) => key),
        row,
      )
      for (const [index, attempt] of sorted.entries()) {
        const token = tokens[index]
        if (token !== undefined) attempt.grant = grantOf(attempt.request, token, Number(row[2]), startedAt)
      }
    } catch (error) {
      // The other statement finds grants whose answer was lost by their owners, and whose value the server refuses.
      if (isTransient(error) || isDataError(error)) return
      if (sent && !isAnswer(error)) this.#settings.forsaken(batch.map(({ request }) => request))
      throw error
    }
  }

  /** A value that the server refuses, such as a key outside of the database's encoding, fails for its own caller alone. */
  async #grantApart(statement: Statement, batch: readonly GrantRequest[]): Promise<readonly BatchOutcome[]> {
    try {
      return await this.#grant(statement, batch)
    } catch (error) {
      if (batch.length === 1 || !isDataError(error)) throw error
      return Promise.all(batch.map((request) => this.#grantAlone(statement, request)))
    }
  }

  async #grantAlone(statement: Statement, request: GrantRequest): Promise<BatchOutcome> {
    try {
      return (await this.#grant(statement, [request]))[0] ?? refused
    } catch (error) {
      return { kind: 'failed', error }
    }
  }

  async #grant(statement: Statement, batch: readonly GrantRequest[]): Promise<readonly GrantOutcome[]> {
    const values = [
      ...columnsOf(batch),
      this.#settings.acquirer.name,
      this.#settings.acquirer.address,
      this.#settings.clockMarginMs,
      this.#settings.afterFailover === 'grant',
    ]
    let sent = false
    const onSend = (): boolean => (sent = true)
    for (let attempt = 0; ; attempt += 1) {
      const startedAt = monotonicNow()
      try {
        const rows = await this.#store.query<GrantRow>(statement, values, { timeoutMs: attemptMs[attempt], onSend })
        return outcomesOf(batch, rows, startedAt)
      } catch (error) {
        if (attempt + 1 >= attemptMs.length || !isTransient(error)) {
          if (sent && !isAnswer(error)) this.#settings.forsaken(batch)
          throw error
        }
        // Asking again for the same owners is safe: what the lost answer granted is granted again, with the same token.
      }
    }
  }
}

/** Class 22: the statement is right, and a value is not. */
const isDataError = (error: unknown): boolean =>
  error instanceof QueryError && error.sqlState?.startsWith('22') === true

/** Of the server or of the connection; else a policy gave up, and what it gave up on may have been granted. */
const isAnswer = (error: unknown): boolean => error instanceof CoordinationError

const columnsOf = (batch: readonly GrantRequest[]): readonly string[] => [
  textArray(batch.map((request) => request.key)),
  plainArray(batch.map((request) => request.owner)),
  plainArray(batch.map((request) => request.ttlMs)),
  textArray(batch.map((request) => request.metadata)),
]

/** Whether one ttl and the same metadata do for all. */
const areAlike = ([first, ...others]: readonly GrantRequest[]): boolean =>
  others.every(({ ttlMs, metadata }) => ttlMs === first?.ttlMs && metadata === first.metadata)

/** The columns of requests that are alike, once they share the owner. */
const together = (requests: readonly GrantRequest[], owner: string): readonly unknown[] => {
  for (const request of requests) request.owner = owner
  const [first] = requests
  return [textArray(requests.map(({ key }) => key)), owner, first?.ttlMs, first?.metadata]
}

const grantOf = (request: GrantRequest, token: string, acquiredAtMs: number, startedAt: number): Grant => ({
  kind: 'granted',
  token: BigInt(token),
  acquiredAtMs,
  startedAt,
  leaseMs: request.ttlMs,
  handedOver: false,
})

const outcomesOf = (
  batch: readonly GrantRequest[],
  rows: readonly GrantRow[],
  startedAt: number,
): readonly GrantOutcome[] => {
  const byKey = new Map<string, GrantRow>()
  for (const row of rows) byKey.set(row[0], row)
  return batch.map((request) => {
    const row = byKey.get(request.key)
    if (row === undefined) return held
    const [, state, token, acquiredAtMs] = row
    if (token !== null) return grantOf(request, token, Number(acquiredAtMs), startedAt)
    return state === 'stalled' ? stalled : refused
  })
}
