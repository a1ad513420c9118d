import { type LockMode, QueryError } from '@x/lock-core'
import { type Coalescer, createCoalescer, monotonicNow } from '@x/lock-core/adapter'
import type { Statement } from '@x/pg-session'
import { plainArray, textArray } from './array-literal.ts'
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
    const coalesce = (few: Statement, many: Statement): Coalescer<GrantRequest, GrantOutcome> =>
      createCoalescer({
        identityOf: (request) => request.key,
        maxBatch: largestBatch,
        run: (batch) => this.#grant(batch.length < manyFrom ? few : many, batch),
      })
    this.#exclusive = coalesce(grant, grantMany)
    this.#shared = coalesce(grantShared, grantSharedMany)
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

  async #grant(statement: Statement, batch: readonly GrantRequest[]): Promise<readonly GrantOutcome[]> {
    const values = [
      textArray(batch.map((request) => request.key)),
      textArray(batch.map((request) => request.owner)),
      plainArray(batch.map((request) => request.ttlMs)),
      textArray(batch.map((request) => request.metadata)),
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
    if (token !== null) {
      return {
        kind: 'granted',
        token: BigInt(token),
        acquiredAtMs: Number(acquiredAtMs),
        startedAt,
        leaseMs: request.ttlMs,
      }
    }
    return state === 'stalled' ? stalled : refused
  })
}
