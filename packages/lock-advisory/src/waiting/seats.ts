import type { SessionLocks } from '../session-locks.ts'

/** The capped set of further sessions that may block in the server's queue. */
export class Seats {
  readonly #open: () => Promise<SessionLocks>
  readonly #max: number
  readonly #idleMs: number
  /** Everyone that is open, with the timer that closes it while it is free. */
  readonly #seats = new Map<SessionLocks, NodeJS.Timeout | null>()
  #opening = 0
  #closed = false

  constructor(open: () => Promise<SessionLocks>, max: number, idleMs: number) {
    this.#open = open
    this.#max = max
    this.#idleMs = idleMs
  }

  /** All that are open. */
  all(): IterableIterator<SessionLocks> {
    return this.#seats.keys()
  }

  /** A session that nobody uses; null when all are taken. */
  async take(): Promise<SessionLocks | null> {
    for (const [seat, timer] of this.#seats) {
      if (timer === null) continue
      clearTimeout(timer)
      this.#seats.set(seat, null)
      if (seat.isAlive()) return seat
      this.#seats.delete(seat)
    }
    if (this.#closed || this.#seats.size + this.#opening >= this.#max) return null
    this.#opening += 1
    try {
      const seat = await this.#open()
      if (this.#closed) {
        await seat.close()
        return null
      }
      this.#seats.set(seat, null)
      return seat
    } finally {
      this.#opening -= 1
    }
  }

  /** Does nothing for a session that is none of these. */
  giveBack(seat: SessionLocks): void {
    if (this.#seats.get(seat) !== null) return
    if (!seat.isAlive()) {
      this.#seats.delete(seat)
      return
    }
    seat.rest()
    const timer = setTimeout(() => {
      this.#seats.delete(seat)
      void seat.close()
    }, this.#idleMs)
    timer.unref()
    this.#seats.set(seat, timer)
  }

  remove(seat: SessionLocks): void {
    clearTimeout(this.#seats.get(seat) ?? undefined)
    this.#seats.delete(seat)
  }

  async close(): Promise<void> {
    this.#closed = true
    const seats = [...this.#seats]
    this.#seats.clear()
    await Promise.all(
      seats.map(([seat, timer]) => {
        clearTimeout(timer ?? undefined)
        return seat.close()
      }),
    )
  }
}
