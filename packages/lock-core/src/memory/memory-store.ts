import type { Clock, Timer } from '../adapter/clock.ts'
import type { LockHandle } from '../adapter/lock-handle.ts'
import { type Turn, WaitQueue } from '../adapter/wait-queue.ts'

/** One grant in the store. */
export interface MemoryGrant {
  readonly turn: Turn
  readonly metadata: Readonly<Record<string, string>> | null
}

/**
 * What lockers on one store share: who has which key, and the last fencing token of all keys.
 * The line of waiters is the lock itself: whoever has his turn has the key.
 */
export class MemoryStore {
  readonly queue: WaitQueue = new WaitQueue()
  readonly #holders = new Map<string, Set<LockHandle<MemoryGrant>>>()
  readonly #kept = new Map<string, Keep>()
  #lastToken = 0n

  nextToken(): bigint {
    this.#lastToken += 1n
    return this.#lastToken
  }

  holders(key: string): readonly LockHandle<MemoryGrant>[] {
    return [...(this.#holders.get(key) ?? [])]
  }

  add(lock: LockHandle<MemoryGrant>): void {
    const holders = this.#holders.get(lock.key)
    if (holders === undefined) this.#holders.set(lock.key, new Set([lock]))
    else holders.add(lock)
  }

  /** Frees the key of this grant, at once or after `keepMs`. */
  remove(lock: LockHandle<MemoryGrant>, keepMs: number, clock: Clock): void {
    const holders = this.#holders.get(lock.key)
    holders?.delete(lock)
    if (holders?.size === 0) this.#holders.delete(lock.key)
    if (keepMs > 0) this.#keep(lock, keepMs, clock)
    else lock.grant.turn.leave()
  }

  /** Ends what has run out: timers may be late, and a grant that is over must not stand in the way of the next one. */
  sweep(key: string): void {
    for (const lock of this.holders(key)) lock.isHeld()
    this.#kept.get(key)?.endIfOver()
  }

  #keep(lock: LockHandle<MemoryGrant>, keepMs: number, clock: Clock): void {
    const { key } = lock
    // Several shared holders may each have to keep the key: their turns end one by one.
    const previous = this.#kept.get(key)
    const keep = new Keep(
      clock,
      keepMs,
      () => {
        if (this.#kept.get(key) === keep) this.#kept.delete(key)
        lock.grant.turn.leave()
      },
      previous,
    )
    this.#kept.set(key, keep)
  }
}

/** A key that stays taken after its release. */
class Keep {
  readonly #clock: Clock
  readonly #endsAt: number
  readonly #end: () => void
  readonly #previous: Keep | undefined
  #timer: Timer | null = null

  constructor(clock: Clock, keepMs: number, end: () => void, previous: Keep | undefined) {
    this.#clock = clock
    this.#endsAt = clock.now() + keepMs
    this.#end = end
    this.#previous = previous
    this.#wait()
  }

  endIfOver(): void {
    this.#previous?.endIfOver()
    if (this.#timer === null || this.#clock.now() < this.#endsAt) return
    this.#timer.cancel()
    this.#timer = null
    this.#end()
  }

  #wait(): void {
    this.#timer = this.#clock.schedule(() => {
      if (this.#clock.now() >= this.#endsAt) this.endIfOver()
      else this.#wait()
    }, this.#endsAt - this.#clock.now())
  }
}
