import { hasErrorCode, LockLostError, LockNotHeldError } from '../errors.ts'
import type { Lock, LockLostReason, LockMode } from '../locker.ts'
import type { Logger } from '../observability.ts'
import { type Clock, systemClock, type Timer } from './clock.ts'
import { createExactController, type ExactController } from './exact-signal.ts'
import type { GrantedLock } from './granted-lock.ts'
import { checkTtl } from './options.ts'
import { lostChannel, publishLoss, refreshChannel, releaseChannel, traced } from './tracing.ts'

/** What an adapter does for the locks it gave out. One object serves all locks of a locker. */
export interface LockHooks<Grant> {
  /**
   * Gives this grant back, and no other. `keepMs` above 0: the key stays taken for that long (`minHoldMs`).
   * Reject with `LockNotHeldError` when the store says that the grant is over.
   */
  release(lock: LockHandle<Grant>, keepMs: number): Promise<void>
  /**
   * Starts the ttl of this grant anew; resolve when the store has confirmed it. Reject with `LockNotHeldError` when the
   * store says that the grant is over. The adapter keeps it and its own renewals of the same grant in order: a renewal
   * with another ttl that overtakes it would leave the store with less than we believe.
   */
  refresh(lock: LockHandle<Grant>, ttlMs: number): Promise<void>
  /** Called once, synchronously, when the lock is lost: forget it, and free what it still holds in the store. */
  lost?(lock: LockHandle<Grant>, error: LockLostError): void
}

/** What all locks of one locker have in common. */
export interface LockFamily<Grant> {
  readonly hooks: LockHooks<Grant>
  /** @default systemClock */
  readonly clock?: Clock | undefined
  readonly logger?: Logger | undefined
  /**
   * What the passing of the ttl is called: `deadline` where the store decides and we only believe, `lease-expired` where
   * this process decides.
   * @default 'deadline'
   */
  readonly expiry?: 'deadline' | 'lease-expired' | undefined
  /**
   * What it is called when the store says, on a release or a refresh, that the grant is not ours any more: `session-ended`
   * where grants live in a session.
   * @default 'lease-expired'
   */
  readonly gone?: LockLostReason | undefined
  /**
   * Set where the store does not end grants by itself: the loss, and with it `hooks.lost`, comes at the deadline although
   * nobody looks at the lock.
   * @default false
   */
  readonly enforceTtl?: boolean | undefined
  /**
   * Called before a lock answers whether it is held: where locks share a fate (a session), an adapter ends them here when
   * its own deadline has passed, so that no lock is believed in for longer than what it lives in.
   */
  settle?(): void
  /** Why no renewal was confirmed, where the adapter knows: the cause of a loss at the end of the lease. */
  unrenewed?(lock: LockHandle<Grant>): unknown
}

type HoldState =
  | { readonly kind: 'held' }
  | { readonly kind: 'releasing'; readonly done: Promise<void> }
  | { readonly kind: 'released' }
  | { readonly kind: 'lost'; readonly error: LockLostError }

const held: HoldState = { kind: 'held' }
const released: HoldState = { kind: 'released' }

/**
 * The one implementation of `Lock`, for every adapter. It believes in its grant until its local deadline and answers
 * `isHeld()` by looking at the clock; it makes no AbortController before `signal` is read, and no timer before somebody
 * depends on one.
 *
 * An adapter tells it what it learns: `renewed()` after a confirmed renewal, `lose()` when the grant is over.
 */
export class LockHandle<Grant = unknown> implements Lock {
  readonly key: string
  readonly mode: LockMode
  readonly fencingToken: bigint | null
  readonly sessionId: string
  /** What the adapter gave to find this grant again. */
  readonly grant: Grant
  readonly #family: LockFamily<Grant>
  readonly #acquiredAtMs: number
  readonly #startedAt: number
  readonly #keptUntil: number
  readonly #holdEndsAt: number
  #ttlMs: number
  #leaseEndsAt: number
  #state: HoldState = held
  #controller: ExactController | null = null
  #timer: Timer | null = null
  #refreshing: Promise<void> | null = null
  #refreshedAt = 0

  constructor(granted: GrantedLock<Grant>, family: LockFamily<Grant>) {
    this.key = granted.key
    this.mode = granted.mode
    this.fencingToken = granted.fencingToken
    this.sessionId = granted.sessionId
    this.grant = granted.grant
    this.#family = family
    this.#acquiredAtMs = granted.acquiredAtMs
    this.#startedAt = granted.startedAt
    this.#holdEndsAt = granted.startedAt + (granted.maxHoldMs ?? Number.POSITIVE_INFINITY)
    this.#ttlMs = granted.ttlMs
    this.#leaseEndsAt = granted.startedAt + (granted.leaseMs ?? granted.ttlMs)
    // The other way round than a deadline: from an instant that is not before the grant, or the key would be free too soon.
    this.#keptUntil = granted.minHoldMs ? this.#now() + granted.minHoldMs : Number.NEGATIVE_INFINITY
    if (family.enforceTtl === true || this.#holdEndsAt !== Number.POSITIVE_INFINITY) this.#watch()
  }

  get acquiredAt(): Date {
    return new Date(this.#acquiredAtMs)
  }

  get ttlMs(): number {
    return this.#ttlMs
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = createExactController(() => this.#settle())
      this.#settle()
      if (this.#state.kind === 'lost') this.#controller.abort(this.#state.error)
      else this.#watch()
    }
    return this.#controller.signal
  }

  isHeld(): boolean {
    this.#settle()
    return this.#state.kind === 'held'
  }

  remainingMs(): number {
    if (!this.isHeld()) return 0
    const endsAt = this.#endsAt()
    return endsAt === Number.POSITIVE_INFINITY ? endsAt : Math.max(0, endsAt - this.#now())
  }

  assertHeld(): void {
    this.#settle()
    if (this.#state.kind === 'lost') throw this.#state.error
    if (this.#state.kind !== 'held') throw this.#notHeld('use')
  }

  async refresh(ttlMs: number = this.#ttlMs): Promise<void> {
    checkTtl(ttlMs)
    // One at a time: of two that overtake each other on the way nobody knows which one the store has kept.
    while (this.#refreshing !== null) await this.#refreshing
    if (!this.isHeld()) throw this.#notHeld('refresh')
    const refreshed = this.#refresh(ttlMs)
    this.#refreshing = refreshed.catch(() => {})
    try {
      await refreshed
    } finally {
      this.#refreshing = null
      this.#refreshedAt = this.#now()
    }
  }

  release(): Promise<void> {
    this.#settle()
    if (this.#state.kind !== 'held') return Promise.reject(this.#notHeld('release'))
    const now = this.#now()
    const holdMs = now - this.#startedAt
    const keepMs = Math.max(0, this.#keptUntil - now)
    this.#stopWatching()
    // From here on it is not held any more, whatever becomes of the request: what it protects must have ended before.
    this.#state = released
    const done = this.#sendRelease(keepMs, holdMs).then(
      () => {
        this.#state = released
      },
      (error: unknown) => {
        this.#state = released
        if (!hasErrorCode(error, 'LOCK_NOT_HELD')) throw error
        // We believed in it until now and the store says otherwise: that is a loss, and its listeners must hear of it.
        this.#state = held
        this.lose(this.#family.gone ?? 'lease-expired', error)
        throw this.#notHeld('release')
      },
    )
    this.#state = { kind: 'releasing', done }
    return done
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.isHeld()) await this.release()
      else if (this.#state.kind === 'releasing') await this.#state.done
    } catch (error) {
      // A lock that could not be given back ends with its lease or its session.
      if (!hasErrorCode(error, 'LOCK_NOT_HELD')) {
        this.#family.logger?.warn({ err: error, key: this.key }, 'a lock could not be released on dispose')
      }
    }
  }

  /**
   * For the adapter: a renewal was confirmed. Has no effect on a lock that is over: what was lost stays lost. Nor on one
   * that is being refreshed, or was since the renewal was sent: the store may have done the two in either order.
   * @param startedAt the clock's `now()` from before the renewal was sent
   */
  renewed(startedAt: number): void {
    if (this.#refreshing !== null || startedAt < this.#refreshedAt) return
    if (this.isHeld()) this.#moveDeadline(startedAt + this.#ttlMs)
  }

  /** For the adapter: the grant is over. Has no effect on a lock that was released or lost before. */
  lose(reason: LockLostReason, cause?: unknown): void {
    if (this.#state.kind !== 'held') return
    const error = new LockLostError({ key: this.key, reason }, cause === undefined ? {} : { cause })
    this.#state = { kind: 'lost', error }
    this.#stopWatching()
    if (lostChannel.hasSubscribers) publishLoss(this, reason, this.#now() - this.#startedAt)
    // The holder hears of it first: the hook may free the key for somebody else.
    this.#controller?.abort(error)
    this.#family.hooks.lost?.(this, error)
  }

  async #refresh(ttlMs: number): Promise<void> {
    const startedAt = this.#now()
    // The answer may be lost after the store has shortened the lease: believe in the shorter one from the start.
    this.#moveDeadline(Math.min(this.#leaseEndsAt, startedAt + ttlMs))
    const trace = { key: this.key, mode: this.mode, fencingToken: this.fencingToken, ttlMs }
    try {
      await traced(refreshChannel, trace, () => this.#family.hooks.refresh(this, ttlMs))
    } catch (error) {
      if (hasErrorCode(error, 'LOCK_NOT_HELD')) this.lose(this.#family.gone ?? 'lease-expired', error)
      throw error
    }
    if (!this.isHeld()) throw this.#notHeld('refresh')
    this.#ttlMs = ttlMs
    this.#moveDeadline(startedAt + ttlMs)
  }

  #sendRelease(keepMs: number, holdMs: number): Promise<void> {
    const { hooks } = this.#family
    try {
      if (!releaseChannel.hasSubscribers) return hooks.release(this, keepMs)
      const { key, mode, fencingToken } = this
      return traced(releaseChannel, { key, mode, fencingToken, holdMs }, () => hooks.release(this, keepMs))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #now(): number {
    return (this.#family.clock ?? systemClock).now()
  }

  #endsAt(): number {
    return Math.min(this.#leaseEndsAt, this.#holdEndsAt)
  }

  /** Turns a deadline that has passed into a loss. */
  #settle(): void {
    if (this.#state.kind !== 'held') return
    this.#family.settle?.()
    if (!this.#believes()) return
    const endsAt = this.#endsAt()
    if (endsAt === Number.POSITIVE_INFINITY || this.#now() < endsAt) return
    if (this.#holdEndsAt <= this.#leaseEndsAt) this.lose('max-hold')
    else this.lose(this.#family.expiry ?? 'deadline', this.#family.unrenewed?.(this))
  }

  /** A method, because the state may have moved in a call that the compiler does not look into. */
  #believes(): boolean {
    return this.#state.kind === 'held'
  }

  #moveDeadline(leaseEndsAt: number): void {
    const earlier = leaseEndsAt < this.#leaseEndsAt
    this.#leaseEndsAt = leaseEndsAt
    // A timer that fires too early looks and sleeps again; only one that would fire too late has to be set anew.
    if (this.#timer !== null ? earlier : this.#controller !== null || this.#family.enforceTtl === true) {
      this.#stopWatching()
      this.#watch()
    }
  }

  #watch(): void {
    const endsAt = this.#endsAt()
    if (this.#timer !== null || this.#state.kind !== 'held' || endsAt === Number.POSITIVE_INFINITY) return
    const wake = (): void => {
      this.#timer = null
      this.#settle()
      this.#watch()
    }
    this.#timer = (this.#family.clock ?? systemClock).schedule(wake, Math.max(0, endsAt - this.#now()))
  }

  #stopWatching(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #notHeld(operation: string): LockNotHeldError {
    const cause = this.#state.kind === 'lost' ? { cause: this.#state.error } : {}
    return new LockNotHeldError({ key: this.key, operation }, cause)
  }
}
