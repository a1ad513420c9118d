import { z } from 'zod'
import { checkKey, checkPatience, parseOptions } from './adapter/options.ts'
import { WaitLimit } from './adapter/wait-limit.ts'
import type { AcquireOptions, Lock, Locker, TryAcquireOptions } from './locker.ts'
import { checkBody, lockerOption } from './locker-argument.ts'
import { runHolding } from './run-holding.ts'

/** What a semaphore is made of. */
export interface SemaphoreOptions {
  locker: Locker
  key: string
  /** 1 to 1_000; the same number in every process. A `tryAcquire` of a full semaphore asks for each of them. */
  permits: number
}

/** One of the permits, as long as it is held. */
export interface Permit extends AsyncDisposable {
  /** Which of the permits: 0 to `permits - 1`. */
  readonly slot: number
  readonly lock: Lock
  /** Aborts when the permit is lost. */
  readonly signal: AbortSignal
  /** @throws {LockNotHeldError} on the second call, and when the permit was lost */
  release(): Promise<void>
}

/** At most `permits` holders at a time, over all processes. */
export interface Semaphore {
  readonly permits: number
  /** One attempt: a permit, or null when all are taken. */
  tryAcquire(options?: Omit<TryAcquireOptions, 'mode'>): Promise<Permit | null>
  /**
   * Waits for a permit.
   * @throws {LockTimeoutError} when `waitTimeoutMs` passed
   */
  acquire(options?: Omit<AcquireOptions, 'mode'>): Promise<Permit>
  /**
   * Runs `fn` with a permit and gives it back, whatever happened.
   * @throws {LockLostError} when the permit was lost although `fn` succeeded
   */
  withPermit<T>(fn: (permit: Permit) => T | Promise<T>, options?: Omit<AcquireOptions, 'mode'>): Promise<T>
}

const schema = z.strictObject({
  locker: lockerOption,
  key: z.string(),
  permits: z.int('expected an integer from 1 to 1000').min(1).max(1_000),
})

/** How many permits are tried before standing in line: enough to find one in a semaphore that is not nearly full. */
const quickTries = 3

/**
 * Makes a semaphore out of any locker: each permit is an exclusive lock of its own, and those who wait stand in line at
 * one more lock, so that only the first of them waits for the permits.
 *
 * @throws {ConfigurationError}
 * @example
 * const uploads = createSemaphore({ locker, key: 'uploads', permits: 4 })
 * await uploads.withPermit((permit) => upload(file, { signal: permit.signal }))
 */
export function createSemaphore(options: SemaphoreOptions): Semaphore {
  const { locker, key, permits } = parseOptions(schema, options, 'createSemaphore')
  checkKey(slotKey(key, permits))
  return new LockSemaphore(locker, key, permits)
}

class LockSemaphore implements Semaphore {
  readonly permits: number
  readonly #locker: Locker
  readonly #key: string

  constructor(locker: Locker, key: string, permits: number) {
    this.#locker = locker
    this.#key = key
    this.permits = permits
  }

  async tryAcquire(options: Omit<TryAcquireOptions, 'mode'> = {}): Promise<Permit | null> {
    return this.#tryFrom(Math.floor(Math.random() * this.permits), this.permits, options)
  }

  async acquire(options: Omit<AcquireOptions, 'mode'> = {}): Promise<Permit> {
    checkPatience(options)
    const { waitTimeoutMs, ...attempt } = options
    using limit = new WaitLimit({ key: this.#key, waitTimeoutMs, signal: options.signal })
    const start = Math.floor(Math.random() * this.permits)
    const tries = waitTimeoutMs === 0 ? this.permits : Math.min(quickTries, this.permits)
    // An attempt knows of no timeout, and one of 0 is the attempts themselves.
    const signal = waitTimeoutMs === undefined || waitTimeoutMs === 0 ? options.signal : limit.signal
    limit.asked()
    const permit = await this.#tryFrom(start, tries, { ...attempt, signal })
    if (permit !== null) return permit
    limit.answered()
    try {
      limit.throwIfOver()
      await using _line = await this.#locker.acquire(`${this.#key}/line`, {
        signal: options.signal,
        waitTimeoutMs: limit.remainingMs(),
      })
      return await this.#firstFree(attempt, limit)
    } catch (error) {
      throw limit.errorOfPart(error)
    }
  }

  async withPermit<T>(fn: (permit: Permit) => T | Promise<T>, options?: Omit<AcquireOptions, 'mode'>): Promise<T> {
    checkBody(fn, 'withPermit')
    const permit = await this.acquire(options)
    return runHolding(permit.lock, () => fn(permit))
  }

  async #tryFrom(start: number, tries: number, options: TryAcquireOptions): Promise<Permit | null> {
    for (let offset = 0; offset < tries; offset += 1) {
      const slot = (start + offset) % this.permits
      const lock = await this.#locker.tryAcquire(slotKey(this.#key, slot), { ...options, mode: 'exclusive' })
      if (lock !== null) return new LockPermit(slot, lock)
    }
    return null
  }

  /** Waits for all permits at once, keeps the first and gives back whatever else is granted meanwhile. */
  async #firstFree(options: AcquireOptions, limit: WaitLimit): Promise<Permit> {
    const enough = new AbortController()
    const signal = options.signal ? AbortSignal.any([options.signal, enough.signal]) : enough.signal
    const waitTimeoutMs = limit.remainingMs()
    const waits = Array.from({ length: this.permits }, async (_, slot) => {
      const lock = await this.#locker.acquire(slotKey(this.#key, slot), {
        ...options,
        signal,
        waitTimeoutMs,
        mode: 'exclusive',
      })
      return new LockPermit(slot, lock)
    })
    let first: Permit | null = null
    try {
      first = await Promise.any(waits)
      return first
    } catch (error) {
      throw error instanceof AggregateError ? error.errors[0] : error
    } finally {
      enough.abort()
      const others = (await Promise.allSettled(waits)).filter((outcome) => outcome.status === 'fulfilled')
      await Promise.all(others.filter(({ value }) => value !== first).map(({ value }) => value[Symbol.asyncDispose]()))
    }
  }
}

class LockPermit implements Permit {
  readonly slot: number
  readonly lock: Lock

  constructor(slot: number, lock: Lock) {
    this.slot = slot
    this.lock = lock
  }

  get signal(): AbortSignal {
    return this.lock.signal
  }

  release(): Promise<void> {
    return this.lock.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lock[Symbol.asyncDispose]()
  }
}

function slotKey(key: string, slot: number): string {
  return `${key}/permit/${slot}`
}
