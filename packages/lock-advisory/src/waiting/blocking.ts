import { hasErrorCode } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { cancelBackend, livingBackends, ping } from '../server-statements.ts'
import type { SessionLocks } from '../session-locks.ts'
import { Alarm } from './alarm.ts'
import { outlast } from './outlast.ts'
import type { Seats } from './seats.ts'
import type { Granted, Wait, Waiting, WaitingContext } from './waiting.ts'

/** A seat in the midst of a statement that may block. */
interface Blocked {
  readonly seat: SessionLocks
  /** Since when, as far as was seen, its server process has been done with the statement; null while it is at it. */
  answeredSince: number | null
}

/** Milliseconds between two attempts to make a blocked statement give up. */
const cancelEveryMs = 50

/**
 * Waits in the server's own queue (`server`): strictly in order over all processes, handed over in one round trip, at the
 * price of a connection and a snapshot for each id that is waited for. A lock that was granted stays in the session that
 * waited for it, and takes its seat with it until it is released. When all seats are taken, the others sleep.
 */
export class Blocking implements Waiting {
  readonly triesFirst: boolean = false
  readonly #context: WaitingContext
  readonly #seats: Seats
  readonly #fallback: Waiting
  readonly #detectMs: number
  readonly #blocked = new Map<number, Blocked>()
  #watch: NodeJS.Timeout | undefined
  #watchedAt = Number.NEGATIVE_INFINITY

  constructor(context: WaitingContext, seats: Seats, fallback: Waiting, detectMs: number) {
    this.#context = context
    this.#seats = seats
    this.#fallback = fallback
    this.#detectMs = detectMs
  }

  async wait(wait: Wait): Promise<Granted | null> {
    using alarm = new Alarm(wait.limit)
    return await outlast(wait.limit, alarm, this.#context.outage, () => this.#waitOnSeats(wait))
  }

  async #waitOnSeats(wait: Wait): Promise<Granted | null> {
    while (wait.limit.over() === undefined) {
      const seat = await this.#seats.take()
      if (seat === null) return this.#fallback.wait(wait)
      this.#context.outage.end()
      wait.limit.answered()
      // It may have taken a while to connect, and nobody would tell us of an end that has come already.
      if (wait.limit.over() !== undefined) {
        this.#seats.giveBack(seat)
        return null
      }
      const granted = await this.#block(seat, wait)
      if (granted !== 'again') return granted
    }
    return null
  }

  sessionLost(session: SessionLocks): void {
    this.#seats.remove(session)
    this.#fallback.sessionLost(session)
  }

  freed(session: SessionLocks): void {
    this.#seats.giveBack(session)
  }

  async close(): Promise<void> {
    clearTimeout(this.#watch)
    await Promise.all([this.#seats.close(), this.#fallback.close()])
  }

  /** `again`: nothing is held and nobody is to blame: the session was lost, or somebody else cancelled the statement. */
  async #block(seat: SessionLocks, wait: Wait): Promise<Granted | null | 'again'> {
    let keepsSeat = false
    const cancelling: Promise<void>[] = []
    const stop = wait.limit.onOver(() => cancelling.push(this.#cancel(seat)))
    this.#blocked.set(seat.pid, { seat, answeredSince: null })
    this.#startWatching()
    try {
      const { block, blockShared } = seat.statements
      const startedAt = monotonicNow()
      const [row] = await seat.query(wait.mode === 'exclusive' ? block : blockShared, [wait.id], {
        timeoutMs: Number.POSITIVE_INFINITY,
      })
      this.#blocked.delete(seat.pid)
      if (wait.limit.over() !== undefined) {
        await Promise.all(cancelling)
        await this.#holdsNothing(seat, wait.id)
        return null
      }
      // The answer may have lain here while this process stood still. Unless the session was seen alive since, ask it.
      if (monotonicNow() - Math.max(startedAt, this.#watchedAt) > this.#detectMs) await seat.query(ping, [])
      keepsSeat = true
      const token = typeof row?.[0] === 'string' ? BigInt(row[0]) : null
      return { session: seat, outcome: { token, sentAt: monotonicNow(), answeredAtMs: Date.now(), size: 1 } }
    } catch (error) {
      this.#blocked.delete(seat.pid)
      // Only when no cancellation is on its way any more does the next statement of the seat belong to somebody else.
      await Promise.all(cancelling)
      if (!(await this.#holdsNothing(seat, wait.id)) || wait.limit.over() !== undefined) return 'again'
      if (isCancelled(error)) return 'again'
      throw error
    } finally {
      stop()
      this.#blocked.delete(seat.pid)
      if (!keepsSeat) this.#seats.giveBack(seat)
    }
  }

  /**
   * A statement that failed (cancelled, 55P03, a deadlock) may have been granted the lock all the same. False: the seat was
   * given up, and the server frees with it whatever it holds.
   */
  async #holdsNothing(seat: SessionLocks, id: string): Promise<boolean> {
    for (let attempts = 0; seat.isAlive() && attempts < 5; attempts += 1) {
      try {
        await seat.query(seat.statements.unlockIfHeld, [id])
        return true
      } catch (error) {
        // A cancellation that came late hits whatever runs next.
        if (!isCancelled(error)) break
      }
    }
    await seat.close()
    this.#seats.remove(seat)
    return false
  }

  /** Again and again, because a cancellation that comes before the statement has begun is forgotten by the server. */
  async #cancel(seat: SessionLocks): Promise<void> {
    try {
      while (this.#blocked.has(seat.pid)) {
        const session = await this.#context.session()
        await session.query(cancelBackend, [seat.pid])
        if (this.#blocked.has(seat.pid)) {
          await new Promise<void>((resolve) => setTimeout(resolve, cancelEveryMs))
        }
      }
    } catch {
      // Without a way to cancel, ending the connection is what is left.
      await seat.close()
    }
  }

  /** A blocked session cannot be asked for a sign of life. Another one asks the server whether it is still there. */
  #startWatching(): void {
    if (this.#watch !== undefined) return
    this.#watch = setTimeout(async () => {
      try {
        await this.#look([...this.#blocked])
      } catch {
        // The locker's session is supervised by itself; the next round looks again.
      }
      this.#watch = undefined
      if (this.#blocked.size > 0) this.#startWatching()
    }, this.#detectMs / 3)
    this.#watch.unref()
  }

  /**
   * Gives up those whose server process is gone, or has answered what never arrived: a line can swallow every byte and stay
   * open on both sides, and then neither the grant nor the end of a cancelled wait would ever be heard of.
   */
  async #look(blocked: readonly (readonly [pid: number, Blocked])[]): Promise<void> {
    if (blocked.length === 0) return
    const session = await this.#context.session()
    const startedAt = monotonicNow()
    const rows = await session.query<readonly [pid: number, isIdle: boolean | null]>(livingBackends, [
      `{${blocked.map(([pid]) => pid).join(',')}}`,
    ])
    const isIdle = new Map(rows)
    this.#watchedAt = startedAt
    for (const [pid, one] of blocked) {
      // Its answer may have come in the meantime, and the seat be blocked for somebody else.
      if (this.#blocked.get(pid) !== one) continue
      one.answeredSince = isIdle.get(pid) === true ? (one.answeredSince ?? startedAt) : null
      // The third look: an answer, like the statement before it, may be on its way for a while.
      const isDeaf = one.answeredSince !== null && startedAt - one.answeredSince > this.#detectMs / 2
      if (isDeaf || !isIdle.has(pid)) void one.seat.close()
    }
  }
}

function isCancelled(error: unknown): boolean {
  return hasErrorCode(error, 'QUERY_FAILED') && 'sqlState' in error && error.sqlState === '57014'
}
