import { type LockMode, QueryError } from '@x/lock-core'
import { type Coalescer, createCoalescer, monotonicNow } from '@x/lock-core/adapter'
import type { Statement } from '@x/pg-session'
import { plainArray, plainElements, textArray } from './array-literal.ts'
import { Contention } from './contention.ts'
import { isTransient, type LockStore } from './store.ts'

/** What is asked of the database for one grant. */
export interface GrantRequest {
  readonly key: string
  /** Unique to this grant; the same when the answer was lost and it is asked for again. */
  readonly owner: string
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
  /** Milliseconds of the lease that are left, counted from `startedAt`. */
  readonly leaseMs: number
}

export type GrantOutcome =
  | Grant
  /** Held by somebody, or there is a line. */
  | { readonly kind: 'held' }
  /** Held by nobody, but those who stand in line come first: the hand-off is due. */
  | { readonly kind: 'stalled' }
  /** Free, and still not granted: somebody was faster, or a failover keeps everybody waiting. */
  | { readonly kind: 'refused' }

/** Who the holder is, as others see it. */
export interface Acquirer {
  readonly name: string
  readonly address: string | null
}

export interface GrantSettings {
  readonly acquirer: Acquirer
  readonly clockMarginMs: number
  readonly afterFailover: 'wait' | 'grant'
}

type OneRow = readonly [token: string, acquiredAtMs: string]
type FreeRow = readonly [owners: string | null, tokens: string | null, acquiredAtMs: string]
type GrantRow = readonly [key: string, state: string | null, token: string | null, acquiredAtMs: string | null]

/** From this size on a statement is planned for the table as it is now, and not as it was when it was prepared. */
const manyFrom = 32

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
  readonly #exclusive: Coalescer<GrantRequest, GrantOutcome>
  readonly #shared: Coalescer<GrantRequest, GrantOutcome>

  constructor(store: LockStore, settings: GrantSettings) {
    this.#store = store
    this.#settings = settings
    this.#contention = new Contention(store, settings.clockMarginMs)
    const { grant, grantShared, grantMany, grantSharedMany } = store.statements
    const byReason = (few: Statement, many: Statement) => (batch: readonly GrantRequest[]) =>
      this.#grant(batch.length < manyFrom ? few : many, batch)
    const coalesce = (run: (batch: readonly GrantRequest[]) => Promise<readonly GrantOutcome[]>) =>
      createCoalescer({ identityOf: (request: GrantRequest) => request.key, maxBatch: largestBatch, run })
    const exclusive = byReason(grant, grantMany)
    this.#exclusive = coalesce((batch) => this.#freeFirst(batch, exclusive))
    this.#shared = coalesce(byReason(grantShared, grantSharedMany))
  }

  /** One attempt. Contention is an outcome, not an error. */
  async attempt(request: GrantRequest): Promise<GrantOutcome> {
    if (!this.#store.admits(request.ttlMs)) await this.#store.admit(request.ttlMs)
    if (await this.#contention.isHeld(request.key, request.mode)) return held
    const outcome = await (request.mode === 'exclusive' ? this.#exclusive : this.#shared).submit(request)
    if (outcome.kind === 'held') this.#contention.remember(request.key)
    return outcome
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

  /** Most keys are free, and granting those is cheap; only what is not is asked for with the statement that knows why. */
  async #freeFirst(
    batch: readonly GrantRequest[],
    rest: (batch: readonly GrantRequest[]) => Promise<readonly GrantOutcome[]>,
  ): Promise<readonly GrantOutcome[]> {
    const grants = await this.#grantFree(batch)
    const left = batch.filter((_, index) => grants[index] === undefined)
    if (left.length === 0) return grants.filter((grant) => grant !== undefined)
    const others = (await rest(left)).values()
    return batch.map((_, index) => grants[index] ?? others.next().value ?? refused)
  }

  /** Grants what is free; undefined for what is not, or where the answer was lost. */
  async #grantFree(batch: readonly GrantRequest[]): Promise<readonly (Grant | undefined)[]> {
    const [alone] = batch
    if (alone === undefined || (batch.length > 1 && !this.#store.hasFunctions)) return []
    const { name, address } = this.#settings.acquirer
    const others = [name, address, this.#settings.clockMarginMs, this.#settings.afterFailover === 'grant']
    const limits = { timeoutMs: attemptMs[0] }
    const startedAt = monotonicNow()
    try {
      if (batch.length === 1) {
        const { key, owner, ttlMs, metadata } = alone
        const values = [key, owner, ttlMs, metadata, ...others]
        const [row] = await this.#store.query<OneRow>(this.#store.statements.grantOne, values, limits)
        return [row && grantOf(alone, row[0], row[1], startedAt)]
      }
      const values = [...columnsOf(batch), ...others]
      const [row] = await this.#store.query<FreeRow>(this.#store.statements.grantFree, values, limits)
      const tokens = plainElements(row?.[1])
      const byOwner = new Map(plainElements(row?.[0]).map((owner, index) => [owner, tokens[index]]))
      return batch.map((request) => {
        const token = byOwner.get(request.owner)
        return token === undefined ? undefined : grantOf(request, token, row?.[2] ?? '0', startedAt)
      })
    } catch (error) {
      if (!isTransient(error)) throw error
      // The statement for the rest finds grants whose answer was lost by their owners.
      return []
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
    for (let attempt = 0; ; attempt += 1) {
      const startedAt = monotonicNow()
      try {
        const rows = await this.#store.query<GrantRow>(statement, values, { timeoutMs: attemptMs[attempt] })
        return outcomesOf(batch, rows, startedAt)
      } catch (error) {
        if (attempt + 1 >= attemptMs.length || !isTransient(error)) throw error
        // Asking again for the same owners is safe: what the lost answer granted is granted again, with the same token.
      }
    }
  }
}

const columnsOf = (batch: readonly GrantRequest[]): readonly string[] => [
  textArray(batch.map((request) => request.key)),
  plainArray(batch.map((request) => request.owner)),
  plainArray(batch.map((request) => request.ttlMs)),
  textArray(batch.map((request) => request.metadata)),
]

const grantOf = (request: GrantRequest, token: string, acquiredAtMs: string, startedAt: number): Grant => ({
  kind: 'granted',
  token: BigInt(token),
  acquiredAtMs: Number(acquiredAtMs),
  startedAt,
  leaseMs: request.ttlMs,
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
    if (token !== null) return grantOf(request, token, acquiredAtMs ?? '0', startedAt)
    return state === 'stalled' ? stalled : refused
  })
}
