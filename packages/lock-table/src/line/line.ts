import type { LockMode, Logger } from '@x/lock-core'
import { type Coalescer, createCoalescer, monotonicNow, systemClock, type Timer } from '@x/lock-core/adapter'
import { plainArray, textArray } from '../array-literal.ts'
import type { Failover } from '../failover.ts'
import type { Acquirer } from '../granting.ts'
import { isRefused, type LockStore } from '../store.ts'
import type { HandOff } from './hand-off.ts'
import { look } from './look.ts'
import { Presence } from './presence.ts'
import type { LineOutcome, Waiter } from './waiter.ts'

/** What is needed to enter a line. */
export interface Entry {
  readonly key: string
  readonly owner: string
  readonly mode: LockMode
  readonly metadata: string | null
}

export interface LineSettings {
  readonly sessionId: string
  readonly acquirer: Acquirer
  readonly pollMs: number
  readonly clockMarginMs: number
}

/** Told when this process begins to wait, so that it can listen; knows the channel once it does. */
export interface WakeUps {
  readonly channel: string | null
  start(): void
}

/**
 * The places of this process in the lines of all keys. One heartbeat keeps them all; one read tells what became of them:
 * after a wake-up, and behind it by polling, whether or not a wake-up came.
 */
export class Line {
  readonly #store: LockStore
  readonly #settings: LineSettings
  readonly #presence: Presence
  readonly #handOff: () => HandOff
  readonly #wakeUps: WakeUps
  readonly #failover: Failover
  readonly #logger: Logger | undefined
  readonly #waiters = new Map<string, Waiter>()
  readonly #perKey = new Map<string, number>()
  readonly #entries: Coalescer<Entry, string | null>
  readonly #looks: Coalescer<Waiter, number>
  readonly #withdrawals: Coalescer<Waiter, boolean>
  /** Tickets that were served before the answer with their number was here. */
  readonly #servedEarly = new Set<string>()
  #entering = 0
  #timer: Timer | null = null
  /** When it fires. */
  #pollAt = Number.POSITIVE_INFINITY
  #polling: Promise<void> | null = null
  #closed = false

  constructor(
    store: LockStore,
    settings: LineSettings,
    parts: { handOff: () => HandOff; wakeUps: WakeUps; failover: Failover; logger: Logger | undefined },
  ) {
    this.#store = store
    this.#settings = settings
    this.#handOff = parts.handOff
    this.#wakeUps = parts.wakeUps
    this.#presence = new Presence(store, { ...settings, channel: () => parts.wakeUps.channel })
    this.#failover = parts.failover
    this.#logger = parts.logger
    this.#entries = createCoalescer({ identityOf: (entry) => entry.key, run: (batch) => this.#enqueue(batch) })
    this.#looks = createCoalescer({ identityOf: (waiter) => waiter.ticket, run: (batch) => this.#look(batch) })
    this.#withdrawals = createCoalescer({ identityOf: (waiter) => waiter.key, run: (batch) => this.#withdraw(batch) })
  }

  /** How many places this process has in the line of the key. */
  waiting(key: string): number {
    return this.#perKey.get(key) ?? 0
  }

  /** A place at the end of the line; null when the key is free and nobody waits: try again. */
  async enter(entry: Entry): Promise<Waiter | null> {
    this.#wakeUps.start()
    this.#entering += 1
    try {
      await this.#presence.assure()
      const ticket = await this.#entries.submit(entry)
      if (ticket === null) return null
      const { promise, resolve, reject } = Promise.withResolvers<LineOutcome>()
      // Whoever waits may have left before.
      promise.catch(() => {})
      const waiter: Waiter = {
        key: entry.key,
        owner: entry.owner,
        mode: entry.mode,
        ticket,
        settle: resolve,
        fail: reject,
        outcome: promise,
      }
      this.#waiters.set(ticket, waiter)
      this.#perKey.set(entry.key, this.waiting(entry.key) + 1)
      if (this.#servedEarly.delete(ticket)) this.wake(ticket)
      // The listener may have come up between the heartbeat and the ticket: then nobody knows yet where to wake us.
      this.#pollIn(this.#presence.isAnnounced ? this.#interval() : 0)
      return waiter
    } finally {
      this.#entering -= 1
      if (this.#entering === 0) this.#servedEarly.clear()
    }
  }

  /** Gives the place up. False: it was served meanwhile, and what it was granted has to be given back. */
  async leave(waiter: Waiter): Promise<boolean> {
    this.#forget(waiter)
    const withdrawn = await this.#withdrawals.submit(waiter)
    // Shared waiters behind may have been waiting for this place alone, and an empty line need not stay open.
    if (withdrawn) await this.#handOff().check(waiter.key)
    return withdrawn
  }

  /** A hint that the ticket was served. */
  wake(ticket: string): void {
    const waiter = this.#waiters.get(ticket)
    if (waiter !== undefined) this.#lookSoon([waiter])
    else if (this.#entering > 0) this.#servedEarly.add(ticket)
  }

  /** What was missed while nobody listened: says where to be woken from now on, and looks at everything. */
  resync(): void {
    if (this.#waiters.size > 0) this.#pollIn(0)
    else this.#presence.doubt()
  }

  /** Gives up every place, and the session. */
  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    await this.#polling
    if (!this.#presence.isKnown) return
    const waiters = [...this.#waiters.values()]
    for (const waiter of waiters) this.#forget(waiter)
    try {
      await this.#store.query(
        this.#store.statements.leave,
        [
          this.#settings.sessionId,
          textArray(waiters.map((waiter) => waiter.key)),
          plainArray(waiters.map((waiter) => BigInt(waiter.ticket))),
        ],
        { bypassPolicy: true },
      )
    } catch (error) {
      this.#logger?.debug({ err: error }, 'the session of a closed locker is left to lapse')
    }
  }

  #forget(waiter: Waiter): void {
    if (!this.#waiters.delete(waiter.ticket)) return
    const rest = this.waiting(waiter.key) - 1
    if (rest > 0) this.#perKey.set(waiter.key, rest)
    else this.#perKey.delete(waiter.key)
    if (this.#waiters.size === 0) {
      this.#timer?.cancel()
      this.#timer = null
    }
  }

  #interval(): number {
    return this.#settings.pollMs * (0.8 + Math.random() * 0.4)
  }

  #pollIn(delayMs: number): void {
    if (this.#closed) return
    const at = monotonicNow() + delayMs
    if (this.#timer !== null && this.#pollAt <= at) return
    this.#timer?.cancel()
    this.#pollAt = at
    // Somebody waits for what this finds: it keeps the process alive, as the wait itself does.
    this.#timer = systemClock.schedule(() => this.#poll(), delayMs, { keepAlive: true })
  }

  #poll(): void {
    this.#timer = null
    if (this.#polling !== null || this.#waiters.size === 0) return
    this.#polling = this.#pollOnce().finally(() => {
      this.#polling = null
    })
  }

  async #pollOnce(): Promise<void> {
    let nextMs = this.#interval()
    try {
      await this.#presence.beat()
      const freeInMs = await Promise.all([...this.#waiters.values()].map((waiter) => this.#looks.submit(waiter)))
      // A lease that is about to end is looked at when it ends.
      for (const inMs of freeInMs) nextMs = Math.min(nextMs, inMs + Math.random() * 20)
    } catch (error) {
      if (isRefused(error)) {
        for (const waiter of [...this.#waiters.values()]) {
          this.#forget(waiter)
          waiter.fail(error)
        }
        return
      }
      this.#logger?.warn({ err: error, waiting: this.#waiters.size }, 'the line could not be polled; trying again')
    }
    if (this.#waiters.size > 0) this.#pollIn(nextMs)
  }

  #lookSoon(waiters: readonly Waiter[]): void {
    for (const waiter of waiters) {
      this.#looks.submit(waiter).catch((error: unknown) => {
        this.#logger?.debug({ err: error, key: waiter.key }, 'a wake-up could not be followed; the poll will')
      })
    }
  }

  async #enqueue(batch: readonly Entry[]): Promise<readonly (string | null)[]> {
    const { acquirer, sessionId, clockMarginMs } = this.#settings
    const rows = await this.#store.query<readonly [key: string, ticket: string]>(this.#store.statements.enqueue, [
      textArray(batch.map((entry) => entry.key)),
      textArray(batch.map((entry) => entry.owner)),
      plainArray(batch.map((entry) => entry.mode === 'shared')),
      textArray(batch.map((entry) => entry.metadata)),
      acquirer.name,
      acquirer.address,
      sessionId,
      clockMarginMs,
    ])
    const tickets = new Map(rows)
    return batch.map((entry) => tickets.get(entry.key) ?? null)
  }

  async #withdraw(batch: readonly Waiter[]): Promise<readonly boolean[]> {
    const rows = await this.#store.query<readonly [ticket: string]>(
      this.#store.statements.withdraw,
      [textArray(batch.map((waiter) => waiter.key)), plainArray(batch.map((waiter) => BigInt(waiter.ticket)))],
      { bypassPolicy: true },
    )
    const withdrawn = new Set(rows.map(([ticket]) => ticket))
    return batch.map((waiter) => withdrawn.has(waiter.ticket))
  }

  /** Settles what was granted or passed over. Resolves, for each, to the milliseconds until its key may be free. */
  async #look(batch: readonly Waiter[]): Promise<readonly number[]> {
    const startedAt = monotonicNow()
    const rows = await look(this.#store, batch, this.#settings.clockMarginMs)
    const freeInMs = batch.map(() => Number.POSITIVE_INFINITY)
    const due = new Set<string>()
    for (const [position, token, leaseMs, acquiredAtMs, inLine, isDue, freeIn] of rows) {
      const index = Number(position) - 1
      const waiter = batch[index]
      if (waiter === undefined || !this.#waiters.has(waiter.ticket)) continue
      if (token !== null && Number(leaseMs) > 0) {
        this.#forget(waiter)
        waiter.settle({
          kind: 'granted',
          token: BigInt(token),
          acquiredAtMs: Number(acquiredAtMs),
          startedAt,
          leaseMs: Number(leaseMs),
          handedOver: true,
        })
      } else if (inLine !== '1') {
        this.#forget(waiter)
        waiter.settle({ kind: 'passed-over' })
      } else if (isDue === '1') {
        due.add(waiter.key)
      } else if (freeIn !== null) {
        freeInMs[index] = Math.max(0, Number(freeIn))
      }
    }
    if (due.size > 0) void this.#handOffDue(due)
    return freeInMs
  }

  /** Nothing is handed off before somebody has noticed a failover. */
  async #handOffDue(keys: ReadonlySet<string>): Promise<void> {
    try {
      if ((await this.#failover.quietMs()) > 0) return
      await Promise.all([...keys].map((key) => this.#handOff().check(key)))
    } catch (error) {
      this.#logger?.warn({ err: error }, 'a free lock could not be handed off; trying again')
    }
  }
}
