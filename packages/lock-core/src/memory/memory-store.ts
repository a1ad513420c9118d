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
  readonly #kept = new Map<string, Set<Keep>>()
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
    for (const keep of [...(this.#kept.get(key) ?? [])]) keep.endIfOver()
  }

  #keep(lock: LockHandle<MemoryGrant>, keepMs: number, clock: Clock): void {
    const { key } = lock
    // Several shared holders may each have to keep the key: their turns end one by one.
    const keeps = this.#kept.get(key) ?? new Set()
    this.#kept.set(key, keeps)
    const keep = new Keep(clock, keepMs, () => {
      keeps.delete(keep)
      if (keeps.size === 0) this.#kept.delete(key)
      lock.grant.turn.leave()
    })
    keeps.add(keep)
  }
}

/** A key that stays taken after its release. */
class Keep {
  readonly #clock: Clock
  readonly #endsAt: number
  readonly #end: () => void
  #timer: Timer

  constructor(clock: Clock, keepMs: number, end: () => void) {
    this.#clock = clock
    this.#endsAt = clock.now() + keepMs
    this.#end = end
    this.#timer = this.#wait()
  }

  endIfOver(): void {
    if (this.#clock.now() < this.#endsAt) return
    this.#timer.cancel()
    this.#end()
  }

  #wait(): Timer {
    const wake = (): void => {
      if (this.#clock.now() < this.#endsAt) this.#timer = this.#wait()
      else this.#end()
    }
    return this.#clock.schedule(wake, this.#endsAt - this.#clock.now())
  }
}
