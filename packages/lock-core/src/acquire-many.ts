import { describeValue } from './adapter/describe-value.ts'
import { createExactController, type ExactController } from './adapter/exact-signal.ts'
import { checkKey, checkPatience } from './adapter/options.ts'
import { WaitLimit } from './adapter/wait-limit.ts'
import { ConfigurationError, LockNotHeldError, LockTimeoutError } from './errors.ts'
import type { AcquireOptions, Lock, Locker } from './locker.ts'
import { checkLocker } from './locker-argument.ts'

/** Several locks that are held, refreshed and released as one. */
export interface LockSet extends AsyncDisposable {
  /** One lock for each identity, in the order in which the keys were given. */
  readonly locks: readonly Lock[]
  /** The lock that stands for the key; undefined for a key that was not asked for. */
  get(key: string): Lock | undefined
  /** Aborts when the first of them is lost, with its `LockLostError`. */
  readonly signal: AbortSignal
  /** Whether all of them are held. */
  isHeld(): boolean
  /** @throws {LockLostError} when one was lost. @throws {LockNotHeldError} when one was released. */
  assertHeld(): void
  /** @throws {LockNotHeldError} when one of them is not ours any more */
  refresh(ttlMs?: number): Promise<void>
  /** Releases all, also when one fails. @throws {LockNotHeldError} on the second call, and when one was lost. */
  release(): Promise<void>
}

/**
 * Acquires all keys or none. Free keys are taken in one statement where the adapter can. When some are taken, the keys
 * are waited for one after the other in an order that all callers share, so that no two of them deadlock, whatever order
 * they name the keys in.
 *
 * @param keys at least one; two keys with one identity (`Locker.identityOf`) are one lock
 * @throws {LockTimeoutError} when `waitTimeoutMs` passed before all were granted; none is held then
 * @throws {LockLostError} when one was lost while the others were waited for; none is held then
 * @example
 * await using accounts = await acquireMany(locker, ['account/7', 'account/3'], { waitTimeoutMs: 2_000 })
 * await transfer({ signal: accounts.signal })
 */
export async function acquireMany(
  locker: Locker,
  keys: Iterable<string>,
  options: AcquireOptions = {},
): Promise<LockSet> {
  checkLocker(locker, 'acquireMany')
  checkPatience(options)
  const keyring = new Keyring(locker, keys)
  using limit = new WaitLimit({ key: keyring.label, waitTimeoutMs: options.waitTimeoutMs, signal: options.signal })
  if (locker.tryAcquireMany !== undefined) {
    const { waitTimeoutMs, ...attempt } = options
    // An attempt knows of no timeout, and one of 0 is the attempt itself.
    const signal = waitTimeoutMs === undefined || waitTimeoutMs === 0 ? options.signal : limit.signal
    limit.asked()
    const locks = await locker.tryAcquireMany(keyring.keys, { ...attempt, ...(signal && { signal }) })
    if (locks !== null) return new HeldLocks(keyring, locks)
    limit.answered()
    if (waitTimeoutMs === 0) throw new LockTimeoutError({ key: keyring.label, waitTimeoutMs })
  }
  return new HeldLocks(keyring, await waitForAll(locker, keyring, options, limit))
}

async function waitForAll(
  locker: Locker,
  keyring: Keyring,
  options: AcquireOptions,
  limit: WaitLimit,
): Promise<readonly Lock[]> {
  const locks: Lock[] = []
  try {
    for (const key of keyring.keys) {
      // Whoever loses one of the locks stops waiting for the others.
      const signal = AbortSignal.any([...(options.signal ? [options.signal] : []), ...locks.map((lock) => lock.signal)])
      locks.push(await locker.acquire(key, { ...options, signal, waitTimeoutMs: limit.remainingMs() }))
    }
    for (const lock of locks) lock.assertHeld()
    return locks
  } catch (error) {
    await Promise.allSettled(locks.map((lock) => lock[Symbol.asyncDispose]()))
    throw limit.errorOfPart(error)
  }
}

/** The keys of a set: one for each identity, in the order that all callers share, and in the order they were given. */
class Keyring {
  /** In the order of their identities: the order in which they are waited for. */
  readonly keys: readonly string[]
  /** For error messages. */
  readonly label: string
  readonly #identityOf: (key: string) => string | bigint
  readonly #given: ReadonlyMap<string | bigint, string>

  constructor(locker: Locker, keys: Iterable<string>) {
    // A string is an iterable of strings, for the compiler too: of its letters.
    if (typeof keys !== 'object' || keys === null || !(Symbol.iterator in keys)) {
      throw new ConfigurationError(
        `option keys: expected several keys; got ${describeValue(keys)}; pass them in an array, or call acquire() for one`,
        { option: 'keys' },
      )
    }
    this.#identityOf = (key) => locker.identityOf?.(key) ?? key
    const given = new Map<string | bigint, string>()
    for (const key of keys) {
      checkKey(key)
      const identity = this.#identityOf(key)
      if (!given.has(identity)) given.set(identity, key)
    }
    if (given.size === 0) {
      throw new ConfigurationError('option keys: expected at least one key; got none', { option: 'keys' })
    }
    this.#given = given
    this.keys = [...given].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, key]) => key)
    this.label = this.keys.join(', ')
  }

  /** The locks, one for each of `keys`, by identity and in the order in which the keys were given. */
  arrange(locks: readonly Lock[]): ReadonlyMap<string | bigint, Lock> {
    const byIdentity = new Map(locks.map((lock) => [this.#identityOf(lock.key), lock]))
    const arranged = new Map<string | bigint, Lock>()
    for (const identity of this.#given.keys()) {
      const lock = byIdentity.get(identity)
      if (lock !== undefined) arranged.set(identity, lock)
    }
    return arranged
  }

  identityOf(key: string): string | bigint {
    return this.#identityOf(key)
  }
}

class HeldLocks implements LockSet {
  readonly locks: readonly Lock[]
  readonly #keyring: Keyring
  readonly #byIdentity: ReadonlyMap<string | bigint, Lock>
  #controller: ExactController | null = null
  #released = false

  constructor(keyring: Keyring, locks: readonly Lock[]) {
    this.#keyring = keyring
    this.#byIdentity = keyring.arrange(locks)
    this.locks = [...this.#byIdentity.values()]
  }

  get(key: string): Lock | undefined {
    return this.#byIdentity.get(this.#keyring.identityOf(key))
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = createExactController(() => this.isHeld())
      this.#controller = controller
      for (const { signal } of this.locks) {
        if (signal.aborted) controller.abort(signal.reason)
        else signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true })
      }
    }
    return this.#controller.signal
  }

  isHeld(): boolean {
    // Every one is asked: each learns of its own loss.
    return this.locks.filter((lock) => !lock.isHeld()).length === 0
  }

  assertHeld(): void {
    for (const lock of this.locks) lock.assertHeld()
  }

  async refresh(ttlMs?: number): Promise<void> {
    await settleAll(this.locks.map((lock) => lock.refresh(ttlMs)))
  }

  async release(): Promise<void> {
    if (this.#released) throw new LockNotHeldError({ key: this.#keyring.label, operation: 'release' })
    this.#released = true
    await settleAll(this.locks.map((lock) => lock.release()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released = true
    await Promise.all(this.locks.map((lock) => lock[Symbol.asyncDispose]()))
  }
}

/** Waits for all, and only then fails with the first error. */
async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
