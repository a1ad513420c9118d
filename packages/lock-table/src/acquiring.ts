import type { Logger } from '@x/lock-core'
import { type Turn, type WaitLimit, WaitQueue } from '@x/lock-core/adapter'
import type { Failover } from './failover.ts'
import type { Grant, Granting, GrantOutcome, GrantRequest } from './granting.ts'
import type { HandOff } from './line/hand-off.ts'
import type { Line } from './line/line.ts'
import type { Waiter } from './line/waiter.ts'
import type { Releasing } from './releasing.ts'

/** A grant, and what it was asked with. */
export interface Acquired {
  readonly request: GrantRequest
  readonly grant: Grant
}

/** A request whose turn at the door it is. */
export interface Begun {
  readonly request: GrantRequest
  readonly turn: Turn
}

/** How an attempt to get in ended. */
type Entered =
  | Grant
  | { readonly kind: 'waiting'; readonly waiter: Waiter }
  | { readonly kind: 'over' }
  /** A failover keeps everybody waiting. */
  | { readonly kind: 'refused' }

interface Parts {
  readonly granting: Granting
  readonly line: Line
  readonly handOff: HandOff
  readonly releasing: Releasing
  readonly failover: Failover
  readonly logger: Logger | undefined
}

/** The way of one caller to a lock: a try, a place in line, the hand-off. */
export class Acquiring {
  readonly #parts: Parts
  /** Between asking for a key and having a place in its line nobody of this process overtakes. */
  readonly #doors = new WaitQueue()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** The turn at the door of a key that is thought to be free, for {@link atOnce}; null where it takes the longer way. */
  openDoor(request: GrantRequest): Turn | null {
    const { line, granting } = this.#parts
    if (line.waiting(request.key) > 0 || !granting.mayBeFree(request)) return null
    return this.#doors.tryEnter(request.key, 'exclusive')
  }

  /** One attempt and no more. When it comes to nothing the turn goes on, to `once` or `wait`. */
  async atOnce({ request, turn }: Begun): Promise<Grant | undefined> {
    try {
      const grant = await this.#parts.granting.attemptFree(request)
      if (grant !== undefined) turn.leave()
      return grant
    } catch (error) {
      turn.leave()
      throw error
    }
  }

  /** One attempt; null when the key is held. */
  async once(request: GrantRequest, begun: Turn | null): Promise<Acquired | null> {
    const { key } = request
    const turn = begun ?? this.#doors.tryEnter(key, 'exclusive') ?? (await this.#doors.enter(key, 'exclusive'))
    try {
      const outcome = await this.#attempt(request, begun !== null)
      return outcome.kind === 'granted' ? { request, grant: outcome } : null
    } finally {
      turn.leave()
    }
  }

  /**
   * Waits in line until the lock is granted or the limit is over; rejects when the place in line has been given up.
   * @param newRequest each place in line needs an owner of its own
   */
  async wait(newRequest: () => GrantRequest, limit: WaitLimit, begun: Begun | null): Promise<Acquired> {
    if (begun === null) limit.asked()
    for (let first = begun; ; first = null) {
      if (first === null) limit.throwIfOver()
      const request = first?.request ?? newRequest()
      const entered = await this.#enter(request, limit, first?.turn ?? null)
      if (entered.kind === 'granted') return { request, grant: entered }
      if (entered.kind === 'refused') await this.#parts.failover.pause(limit)
      if (entered.kind !== 'waiting') continue
      try {
        const outcome = await limit.race(entered.waiter.outcome)
        if (outcome.kind === 'granted') return { request, grant: outcome }
      } catch (error) {
        await this.#leave(entered.waiter)
        throw error
      }
    }
  }

  /** Through the door of the key: granted, or with a place in line. */
  async #enter(request: GrantRequest, limit: WaitLimit, begun: Turn | null): Promise<Entered> {
    const { line, failover } = this.#parts
    const { key } = request
    const turn = begun ?? this.#doors.tryEnter(key, 'exclusive') ?? (await this.#doors.enter(key, 'exclusive', limit))
    try {
      // With somebody of this process in line the answer is known.
      let ask = line.waiting(key) === 0
      if (!ask) limit.answered()
      while (limit.over() === undefined) {
        if (ask) {
          const outcome = await this.#attempt(request, begun !== null)
          if (outcome.kind === 'granted') return outcome
          limit.answered()
          if (outcome.kind === 'refused' && (await failover.quietMs()) > 0) return { kind: 'refused' }
          if (limit.over() !== undefined) break
        }
        const waiter = await line.enter(request)
        if (waiter !== null) return { kind: 'waiting', waiter }
        // The key became free meanwhile. Asking again from behind the door would be asking after those who came later.
        ask = true
      }
      return { kind: 'over' }
    } finally {
      turn.leave()
    }
  }

  /**
   * One attempt, and one more where the first found a line of the dead before a free lock, or noticed a failover.
   * @param tried an attempt at a free key was made already
   */
  async #attempt(request: GrantRequest, tried: boolean): Promise<GrantOutcome> {
    const { granting, failover, handOff } = this.#parts
    if (!tried && granting.mayBeFree(request)) {
      const grant = await granting.attemptFree(request)
      if (grant !== undefined) return grant
    }
    const outcome = await granting.attempt(request)
    if (outcome.kind === 'granted' || outcome.kind === 'held' || (await failover.quietMs()) > 0) return outcome
    if (outcome.kind === 'stalled') await handOff.check(request.key)
    return granting.attempt(request)
  }

  async #leave(waiter: Waiter): Promise<void> {
    const { line, releasing, logger } = this.#parts
    const { key, mode, owner } = waiter
    try {
      if (!(await line.leave(waiter))) releasing.abandon({ key, mode, owner, token: null })
    } catch (error) {
      // The line passes over what nobody confirms.
      logger?.warn({ err: error, key }, 'a place in line could not be given up')
    }
  }
}
