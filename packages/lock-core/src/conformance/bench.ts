import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicNow } from '../adapter/clock.ts'
import { ksuid } from '../adapter/ksuid.ts'
import type { LeaderElector } from '../leadership.ts'
import type { Lock, Locker, LockerCapabilities } from '../locker.ts'
import type { ConformanceHooks, ConformanceOptions } from './conformance-options.ts'
import { Random } from './random.ts'

/** What is known of an adapter before any test runs: what decides which cases apply. */
export interface Facts {
  readonly capabilities: LockerCapabilities
  readonly renewsGivenTtl: boolean
  readonly hooks: ConformanceHooks
}

/** One case of the suite. */
export interface Case {
  readonly name: string
  /** Why the case does not apply; null when it does. */
  readonly skip?: (facts: Facts) => string | null
  readonly run: (bench: Bench) => Promise<void>
}

/** Cases about one subject. */
export interface Topic {
  readonly name: string
  readonly cases: readonly Case[]
}

/** What a case works with: fresh lockers and keys, and waiting that ends. Everything is closed when the case is over. */
export class Bench implements Facts {
  readonly capabilities: LockerCapabilities
  readonly renewsGivenTtl: boolean
  readonly hooks: ConformanceHooks
  readonly random: Random
  readonly schedules: number
  /** A ttl for leases that are meant to run out. */
  readonly ttlMs: number
  /** Within which a holder hears of the end of its session. */
  readonly detectMs: number
  /** Within which anything that must happen has happened, on a busy machine too. */
  readonly patienceMs: number
  readonly #options: ConformanceOptions
  readonly #lockers: Locker[] = []
  readonly #electors: LeaderElector[] = []
  #keys = 0

  constructor(options: ConformanceOptions, seed: number) {
    this.#options = options
    this.capabilities = options.capabilities
    this.renewsGivenTtl = options.renewsGivenTtl ?? false
    this.hooks = options.hooks ?? {}
    this.random = new Random(seed)
    this.schedules = options.schedules ?? 50
    this.ttlMs = options.ttlMs ?? 500
    this.detectMs = options.detectMs ?? 5_000
    this.patienceMs = this.detectMs + 4 * this.ttlMs + 3_000
  }

  /** Options of a lock that is meant to run out. */
  get shortLease(): { readonly ttlMs: number; readonly renew: 'manual' } {
    return { ttlMs: this.ttlMs, renew: 'manual' }
  }

  /** Another session on the store. */
  async locker(): Promise<Locker> {
    const locker = await this.#options.createLocker()
    this.#lockers.push(locker)
    return locker
  }

  /** Several sessions on the store. */
  async lockers<const N extends number>(count: N): Promise<readonly [Locker, Locker, ...Locker[]]> {
    const [first, second, ...rest] = await Promise.all(Array.from({ length: count }, () => this.locker()))
    assert(first !== undefined && second !== undefined, 'ask for two lockers or more')
    return [first, second, ...rest]
  }

  /** Stops the elector with everything else: one that is not stopped keeps the process of the suite running. */
  owns(elector: LeaderElector): LeaderElector {
    this.#electors.push(elector)
    return elector
  }

  /** A key that no other case and no earlier run has used. */
  key(): string {
    this.#keys += 1
    return `conformance/${ksuid()}/${this.#keys}`
  }

  /** Resolves when the condition holds; fails after `withinMs`, saying what was waited for. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    withinMs: number = this.patienceMs,
  ): Promise<void> {
    const endsAt = monotonicNow() + withinMs
    while (!(await condition())) {
      if (monotonicNow() >= endsAt) assert.fail(`not within ${withinMs} ms: ${what}`)
      await sleep(5)
    }
  }

  /** The result of the promise; fails after `withinMs`, saying what was waited for. */
  async soon<T>(what: string, promise: Promise<T>, withinMs: number = this.patienceMs): Promise<T> {
    const ended = new AbortController()
    const late = sleep(withinMs, undefined, { signal: ended.signal }).then(
      () => assert.fail(`not within ${withinMs} ms: ${what}`),
      () => new Promise<never>(() => {}),
    )
    try {
      return await Promise.race([promise, late])
    } finally {
      ended.abort()
    }
  }

  /**
   * Runs what needs the event loop to turn at least four times per ttl. Where the machine stalls for longer, a lock that is
   * kept alive is lost rightly, and the attempt says nothing: another one is made.
   */
  async undisturbed(attempt: () => Promise<void>): Promise<void> {
    for (let attempts = 1; ; attempts += 1) {
      let last = monotonicNow()
      let longestMs = 0
      const watch = setInterval(() => {
        longestMs = Math.max(longestMs, monotonicNow() - last)
        last = monotonicNow()
      }, 5)
      try {
        return await attempt()
      } catch (error) {
        if (Math.max(longestMs, monotonicNow() - last) < this.ttlMs / 4 || attempts === 5) throw error
      } finally {
        clearInterval(watch)
      }
    }
  }

  /** A promise that the case looks at later: if the case fails before that, its rejection is nobody's business. */
  start<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => {})
    return promise
  }

  /** The error with which the promise rejects; fails when it resolves or does not settle. */
  failure(what: string, promise: Promise<unknown>): Promise<unknown> {
    return this.start(this.#failure(what, promise))
  }

  async #failure(what: string, promise: Promise<unknown>): Promise<unknown> {
    const outcome = await this.soon(
      what,
      promise.then(
        () => ({ failed: false as const }),
        (error: unknown) => ({ failed: true as const, error }),
      ),
    )
    return outcome.failed ? outcome.error : assert.fail(`resolved, but should have been rejected: ${what}`)
  }

  /** The lock, which must be free. */
  async take(locker: Locker, key: string, options?: Parameters<Locker['tryAcquire']>[1]): Promise<Lock> {
    const lock = await this.soon('an answer to tryAcquire', locker.tryAcquire(key, options))
    assert(lock !== null, `tryAcquire of a free key gave null: ${key}`)
    return lock
  }

  /** Resolves when the store says that so many wait for the key. */
  async waiting(locker: Locker, key: string, waiters: number): Promise<void> {
    await this.until(`status().waiters is ${waiters}`, async () => (await locker.status(key)).waiters === waiters)
  }

  /** Resolves when the key can be taken, and gives it back again. */
  async becomesFree(locker: Locker, key: string, what: string): Promise<void> {
    await this.until(what, async () => {
      const lock = await locker.tryAcquire(key)
      await lock?.release()
      return lock !== null
    })
  }

  /** Closes everything and looks for what was left behind. */
  async close(): Promise<void> {
    for (const elector of this.#electors) void this.start(elector.close())
    await this.soon('close() of every locker', Promise.all(this.#lockers.map((locker) => locker.close())))
    let left: readonly string[] = []
    await this.until(
      'hooks.leaks() finds nothing',
      async () => {
        left = (await this.hooks.leaks?.()) ?? []
        return left.length === 0
      },
      this.detectMs,
    ).catch(() => assert.fail(`left behind in the store: ${left.join('; ')}`))
  }
}

/** @throws when the error has another code */
export function assertCode(error: unknown, code: string, what: string): void {
  const got = error instanceof Error && 'code' in error ? error.code : undefined
  assert.equal(got, code, `${what}: expected an error with code ${code}, got ${String(error)}`)
}

/** @throws when the lock looks held in any way */
export function assertOver(lock: Lock, what: string): void {
  assert.equal(lock.isHeld(), false, `${what}: isHeld() is still true`)
  assert.equal(lock.remainingMs(), 0, `${what}: remainingMs() is not 0`)
  assert.throws(() => lock.assertHeld(), `${what}: assertHeld() does not throw`)
}

/** @throws when the lock does not show that it was lost */
export function assertLost(lock: Lock, what: string): void {
  assertOver(lock, what)
  assert.equal(lock.signal.aborted, true, `${what}: the signal has not aborted`)
  assertCode(lock.signal.reason, 'LOCK_LOST', `${what}: reason of the signal`)
}

/** How the lock was lost, as the reason of its signal says. */
export function lossReason(lock: Lock): unknown {
  const { reason } = lock.signal
  return reason instanceof Error && 'reason' in reason ? reason.reason : undefined
}
