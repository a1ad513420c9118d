import { LockNotHeldError, type Logger } from '@x/lock-core'
import { type Coalescer, createCoalescer, systemClock } from '@x/lock-core/adapter'
import { plainArray, plainElements, textArray } from './array-literal.ts'
import { Lanes } from './lanes.ts'
import type { LeaseName } from './lease.ts'
import type { HandOff } from './line/hand-off.ts'
import { isAmbiguous, isTransient, type LockStore } from './store.ts'

const attempts = 4

/** So many keys fill a statement; while the server is at it, the next one is on its way. */
const fullBatch = 256

const largestHandOff = 2_000

/** A lease that is given back, and whether it was there to be given. */
interface Giving {
  readonly lease: LeaseName
  released: boolean
}

/** Gives leases back: plainly where nobody waits, else to the head of the line. */
export class Releasing {
  readonly #store: LockStore
  readonly #owners: string
  readonly #logger: Logger | undefined
  readonly #releases: Lanes<Giving>
  readonly #handingOff: Coalescer<LeaseName, boolean>
  readonly #background = new Set<Promise<void>>()
  #givenUp = false

  /** @param owners what the owners of all our leases are like */
  constructor(store: LockStore, owners: string, handOff: HandOff, logger: Logger | undefined) {
    this.#store = store
    this.#owners = owners
    this.#logger = logger
    this.#releases = new Lanes({ run: (batch) => this.#release(batch), fullAt: fullBatch, lanes: 4 })
    this.#handingOff = createCoalescer({
      identityOf: ({ key }) => key,
      maxBatch: largestHandOff,
      run: async (leases) => {
        const given = new Set(await handOff.release(leases))
        return leases.map(({ key }) => given.has(key))
      },
    })
  }

  /**
   * @throws {LockNotHeldError} when the database says that this grant is over
   * @throws {ConnectionError} when the database could not be reached: the lease ends with its ttl
   */
  release(lease: LeaseName): Promise<void> {
    return this.#insist(lease, async () => {
      const giving: Giving = { lease, released: false }
      await this.#releases.join(giving)
      return giving.released
    })
  }

  /** Gives the lease back in so many milliseconds, without anybody doing anything then; throws as {@link release}. */
  keep(lease: LeaseName, keepMs: number): Promise<void> {
    const { keep, keepShare } = this.#store.statements
    const statement = lease.mode === 'exclusive' ? keep : keepShare
    const values = [lease.key, lease.owner, lease.token, keepMs]
    const limits = { bypassPolicy: true }
    return this.#insist(lease, async () => (await this.#store.query(statement, values, limits)).length > 0)
  }

  /** No release is sent again from now on. */
  giveUp(): void {
    this.#givenUp = true
  }

  async #insist(lease: LeaseName, give: () => Promise<boolean>): Promise<void> {
    let answerLost = false
    for (let attempt = 1; ; attempt += 1) {
      try {
        // After a lost answer the first attempt may have been the one that released it.
        if ((await give()) || answerLost) return
        throw new LockNotHeldError({ key: lease.key, operation: 'release' })
      } catch (error) {
        if (attempt === attempts || this.#givenUp || !isTransient(error)) throw error
        answerLost ||= isAmbiguous(error)
        await new Promise<void>((resolve) => {
          // The holder waits for it: without a connection this timer is all that keeps the process alive.
          systemClock.schedule(resolve, 10 * 4 ** attempt * (0.5 + Math.random()), { keepAlive: true })
        })
      }
    }
  }

  /** Gives back what nobody will use, without anybody waiting for it; what fails ends with its lease. */
  abandon(lease: LeaseName): void {
    const done = this.release(lease)
      .catch((error: unknown) => {
        this.#logger?.debug({ err: error, key: lease.key }, 'a lock that nobody uses was not there to be released')
      })
      .finally(() => this.#background.delete(done))
    this.#background.add(done)
  }

  /** Resolves when nothing is being given back any more. */
  async idle(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background)
    await this.#releases.idle()
  }

  async #release(batch: readonly Giving[]): Promise<void> {
    const plain = batch.filter(
      ({ lease }) => lease.mode === 'exclusive' && lease.token !== null && lease.lined !== true,
    )
    if (plain.length > 0) await this.#releasePlainly(plain)
    const rest = batch.filter(({ released }) => !released)
    if (rest.length === 0) return
    await Promise.all(
      rest.map(async (giving) => {
        giving.released = await this.#handingOff.submit(giving.lease)
      }),
    )
  }

  /** Frees those that are theirs to give and have no line. */
  async #releasePlainly(batch: readonly Giving[]): Promise<void> {
    const { releaseOne, releaseMany, release } = this.#store.statements
    const { releaseCommit } = this.#store
    const limits = { bypassPolicy: true }
    const [alone] = batch
    if (alone !== undefined && batch.length === 1) {
      const { key, owner, token } = alone.lease
      alone.released = (await this.#store.query(releaseOne, [key, owner, token, releaseCommit], limits)).length > 0
      return
    }
    if (this.#store.hasFunctions) {
      const sorted = batch.toSorted((one, other) => (one.lease.key < other.lease.key ? -1 : 1))
      const values = [keysOf(sorted), tokensOf(sorted), this.#owners, releaseCommit]
      const [row] = await this.#store.query<readonly [tokens: string | null]>(releaseMany, values, limits)
      if (row?.[0] === 'all') {
        for (const giving of sorted) giving.released = true
        return
      }
      const freed = new Set(plainElements(row?.[0]))
      // Of two that give the same grant back, one has.
      for (const giving of sorted) giving.released = freed.delete(String(giving.lease.token))
      return
    }
    // It takes each key once; a second grant of one key is left to the hand-off.
    const byKey = new Map(batch.map((giving) => [giving.lease.key, giving]))
    const leases = [...byKey.values()]
    const owners = plainArray(leases.map(({ lease }) => lease.owner))
    const values = [keysOf(leases), owners, tokensOf(leases), releaseCommit]
    for (const [key, released] of await this.#store.query<readonly [string, string]>(release, values, limits)) {
      const giving = byKey.get(key)
      if (giving !== undefined) giving.released = released === '1'
    }
  }
}

const keysOf = (batch: readonly Giving[]): string => textArray(batch.map(({ lease }) => lease.key))
const tokensOf = (batch: readonly Giving[]): string => plainArray(batch.map(({ lease }) => lease.token))
