import type { Clock } from '../adapter/clock.ts'
import { keepProcess } from '../adapter/keep-process.ts'
import { ClosedError, hasErrorCode } from '../errors.ts'
import type {
  DemotionReason,
  LeaderElector,
  LeaderElectorEvents,
  LeaderElectorOptions,
  LeaderTerm,
} from '../leadership.ts'
import type { Lock, LockStatus } from '../locker.ts'
import type { Unsubscribe } from '../observability.ts'
import { Listeners } from './listeners.ts'
import { OfficeTerm } from './office-term.ts'
import { elapse, jittered } from './pause.ts'

/** What an elector does at the moment. */
type ElectorState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'campaigning' }
  | { readonly kind: 'leading'; readonly term: OfficeTerm }
  | { readonly kind: 'stopping' }
  | { readonly kind: 'stopped' }

/** Options with their defaults filled in. */
export interface CandidateOptions extends LeaderElectorOptions {
  readonly retryMs: number
  readonly stopTimeoutMs: number
}

/**
 * Campaigns, serves its term, campaigns again. One loop does all of it, so that terms cannot overlap: a term is wound up
 * (signal, `demoted`, the end of its work, release) before the next campaign begins.
 */
export class Candidate implements LeaderElector {
  readonly #options: CandidateOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #listeners = new Listeners<LeaderElectorEvents>((error, event) => this.#report(error, event !== 'error'))
  #state: ElectorState = { kind: 'idle' }
  #stop = new AbortController()
  #loop: Promise<void> = Promise.resolve()
  #woundUp: Promise<void> = Promise.resolve()
  #terms = 0
  #pauseMs = 0
  #lastError: unknown = null
  #closed = false

  constructor(options: CandidateOptions, clock: Clock, random: () => number) {
    this.#options = options
    this.#clock = clock
    this.#random = random
  }

  get state(): LeaderElector['state'] {
    return this.#state.kind
  }

  get term(): LeaderTerm | null {
    return this.isLeader() && this.#state.kind === 'leading' ? this.#state.term : null
  }

  get lastError(): unknown {
    return this.#lastError
  }

  isLeader(): boolean {
    return this.#state.kind === 'leading' && this.#state.term.isCurrent()
  }

  leader(): Promise<LockStatus> {
    return this.#options.locker.status(this.#options.key)
  }

  start(): void {
    if (this.#closed) throw new ClosedError('leader elector')
    if (this.#state.kind === 'campaigning' || this.#state.kind === 'leading') return
    // The campaign that follows the stop was ordered already. A second one would leave the first without anybody to stop it.
    if (this.#state.kind === 'stopping' && !this.#stop.signal.aborted) return
    const stop = new AbortController()
    this.#stop = stop
    // After a stop that is still under way: one loop at a time.
    this.#loop = this.#loop.then(() => this.#run(stop.signal))
    if (this.#state.kind !== 'stopping') this.#move({ kind: 'campaigning' })
  }

  async stop(): Promise<void> {
    if (this.#state.kind === 'idle') this.#move({ kind: 'stopped' })
    this.#stop.abort()
    if (this.#state.kind === 'leading') this.#state.term.end('stopped')
    if (this.#state.kind === 'campaigning') this.#move({ kind: 'stopping' })
    await this.#loop
  }

  async resign(options: { pauseMs?: number | undefined } = {}): Promise<void> {
    if (this.#state.kind !== 'leading') return
    this.#pauseMs = options.pauseMs ?? this.#options.retryMs
    this.#state.term.end('resigned')
    await this.#woundUp
  }

  on<E extends keyof LeaderElectorEvents>(event: E, listener: (...args: LeaderElectorEvents[E]) => void): Unsubscribe {
    return this.#listeners.on(event, listener)
  }

  close(): Promise<void> {
    this.#closed = true
    return this.stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #run(stop: AbortSignal): Promise<void> {
    // What the winding up waits for holds the process by itself; a locker that never answers must not.
    using _office = keepProcess(stop)
    if (!stop.aborted && this.#state.kind !== 'campaigning') this.#move({ kind: 'campaigning' })
    while (!stop.aborted) {
      const lock = await this.#campaign(stop)
      if (lock === 'over') break
      if (lock !== null) await this.#serve(lock, stop)
      const pauseMs = lock === null ? jittered(this.#options.retryMs, this.#random) : this.#pauseMs
      this.#pauseMs = 0
      if (pauseMs > 0) await elapse(this.#clock, pauseMs, stop)
    }
    // Unless start() was called again in the meantime.
    if (this.#stop.signal === stop) this.#move({ kind: 'stopped' })
  }

  async #campaign(stop: AbortSignal): Promise<Lock | 'over' | null> {
    const { locker, key, candidate, ttlMs } = this.#options
    try {
      const lock = await locker.acquire(key, {
        signal: stop,
        // A ttl of our own is kept alive by #renew, because not every locker renews a given one.
        ...(ttlMs === undefined ? {} : { ttlMs, renew: 'manual' }),
        ...(candidate === undefined ? {} : { metadata: { candidate } }),
      })
      this.#lastError = null
      if (!stop.aborted) return lock
      await this.#giveBack(lock)
      return 'over'
    } catch (error) {
      if (stop.aborted) return 'over'
      this.#lastError = error
      this.#report(error)
      return hasErrorCode(error, 'CLOSED') ? 'over' : null
    }
  }

  async #serve(lock: Lock, stop: AbortSignal): Promise<void> {
    const term = new OfficeTerm(this.#terms + 1, lock, () => {
      if (this.#state.kind === 'leading') this.#move({ kind: stop.aborted ? 'stopping' : 'campaigning' })
    })
    if (!term.isCurrent()) {
      // A ttl shorter than the way to the store: the next lock would be over as well.
      this.#pauseMs = jittered(this.#options.retryMs, this.#random)
      return
    }
    this.#terms = term.number
    this.#move({ kind: 'leading', term })
    const woundUp = Promise.withResolvers<void>()
    this.#woundUp = woundUp.promise
    const work = this.#tell(term, () => this.#options.elected?.(term))
    this.#listeners.emit('elected', term)
    void this.#renew(term)
    await this.#windUp(term, await term.ended, work)
    woundUp.resolve()
  }

  /** The order matters: the work was told to stop by the signal, has had time to end, and only then may others lead. */
  async #windUp(term: OfficeTerm, reason: DemotionReason, work: Promise<void>): Promise<void> {
    if (reason === 'forced' || reason === 'max-hold') this.#pauseMs = this.#options.retryMs
    const told = this.#tell(term, () => this.#options.demoted?.(reason, term))
    this.#listeners.emit('demoted', reason, term)
    const ended = new AbortController()
    const inTime = Promise.all([work, told]).then(() => ended.abort())
    if (await elapse(this.#clock, this.#options.stopTimeoutMs, ended.signal)) {
      const { key, stopTimeoutMs, logger } = this.#options
      logger?.warn({ key, term: term.number, stopTimeoutMs }, 'the work of a term that is over has not ended in time')
    } else {
      await inTime
    }
    await this.#giveBack(term.lock)
  }

  async #renew(term: OfficeTerm): Promise<void> {
    const { ttlMs } = this.#options
    if (ttlMs === undefined || ttlMs === Number.POSITIVE_INFINITY) return
    while (await elapse(this.#clock, jittered(ttlMs / 3, this.#random), term.signal)) {
      try {
        await term.lock.refresh(ttlMs)
      } catch (error) {
        // Not the end of the term: the next attempt may succeed, and if none does, the local deadline ends it.
        if (term.isCurrent()) this.#report(error)
      }
    }
  }

  async #giveBack(lock: Lock): Promise<void> {
    try {
      if (lock.isHeld()) await lock.release()
    } catch (error) {
      if (!hasErrorCode(error, 'LOCK_NOT_HELD')) this.#report(error)
    }
  }

  async #tell(term: OfficeTerm, callback: () => void | Promise<void> | undefined): Promise<void> {
    try {
      await callback()
    } catch (error) {
      // Work that was stopped by its signal rejects with the signal's reason: that is how it should end.
      if (!(term.signal.aborted && error === term.signal.reason)) this.#report(error)
    }
  }

  #report(error: unknown, tellListeners = true): void {
    const { key, logger, onError } = this.#options
    logger?.error({ err: error, key }, 'leader elector')
    try {
      onError?.(error)
    } catch (second) {
      logger?.error({ err: second, key }, 'onError of a leader elector has thrown')
    }
    if (tellListeners) this.#listeners.emit('error', error)
  }

  #move(next: ElectorState): void {
    this.#options.logger?.debug(
      { key: this.#options.key, from: this.#state.kind, to: next.kind },
      'leader elector moved',
    )
    this.#state = next
  }
}
