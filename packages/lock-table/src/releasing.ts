import { LockNotHeldError, type Logger } from '@x/lock-core'
import { type Coalescer, createCoalescer, systemClock } from '@x/lock-core/adapter'
import { plainArray, plainElements, textArray } from './array-literal.ts'
import type { LeaseName } from './lease.ts'
import type { HandOff } from './line/hand-off.ts'
import { isAmbiguous, isTransient, type LockStore } from './store.ts'

const attempts = 4

/** Gives leases back: plainly where nobody waits, else to the head of the line. */
export class Releasing {
  readonly #store: LockStore
  readonly #handOff: HandOff
  readonly #logger: Logger | undefined
  readonly #releases: Coalescer<LeaseName, boolean>
  readonly #background = new Set<Promise<void>>()

  constructor(store: LockStore, handOff: HandOff, logger: Logger | undefined) {
    this.#store = store
    this.#handOff = handOff
    this.#logger = logger
    this.#releases = createCoalescer({
      identityOf: ({ key }) => key,
      maxBatch: 2_000,
      run: (batch) => this.#release(batch),
    })
  }

  /**
   * @throws {LockNotHeldError} when the database says that this grant is over
   * @throws {ConnectionError} when the database could not be reached: the lease ends with its ttl
   */
  async release(lease: LeaseName): Promise<void> {
    let answerLost = false
    for (let attempt = 1; ; attempt += 1) {
      try {
        const released = await this.#releases.submit(lease)
        // After a lost answer the first attempt may have been the one that released it.
        if (released || answerLost) return
        throw new LockNotHeldError({ key: lease.key, operation: 'release' })
      } catch (error) {
        if (attempt === attempts || !isTransient(error)) throw error
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

  async #release(batch: readonly LeaseName[]): Promise<readonly boolean[]> {
    const plain = batch.filter((lease) => lease.mode === 'exclusive' && lease.token !== null && lease.lined !== true)
    const released = new Set<string>()
    if (plain.length > 0) for (const key of await this.#releasePlainly(plain)) released.add(key)
    const rest = released.size === 0 ? batch : batch.filter((lease) => !released.has(lease.key))
    if (rest.length > 0) for (const key of await this.#handOff.release(rest)) released.add(key)
    return batch.map((lease) => released.has(lease.key))
  }

  /** Keys that were theirs to give and have no line. */
  async #releasePlainly(leases: readonly LeaseName[]): Promise<readonly string[]> {
    const { releaseOne, releaseMany, release } = this.#store.statements
    const limits = { bypassPolicy: true }
    const [alone] = leases
    if (alone !== undefined && leases.length === 1) {
      const freed = await this.#store.query(releaseOne, [alone.key, alone.owner, alone.token], limits)
      return freed.length > 0 ? [alone.key] : []
    }
    const values = [
      textArray(leases.map((lease) => lease.key)),
      plainArray(leases.map((lease) => lease.owner)),
      plainArray(leases.map((lease) => lease.token)),
    ]
    if (this.#store.hasFunctions) {
      const [row] = await this.#store.query<readonly [positions: string | null]>(releaseMany, values, limits)
      return plainElements(row?.[0]).flatMap((position) => leases[Number(position) - 1]?.key ?? [])
    }
    const rows = await this.#store.query<readonly [key: string, released: string]>(release, values, limits)
    return rows.filter(([, itWas]) => itWas === '1').map(([key]) => key)
  }
}
