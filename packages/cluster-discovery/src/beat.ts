import { type Clock, traced } from '@x/lock-core/adapter'
import { Cadence } from './cadence.ts'
import type { BeatAnswer } from './record.ts'
import type { ClusterTables, Incarnation } from './tables.ts'
import { type BeatTrace, beatChannel } from './tracing.ts'

/** An answered beat, with what was known when it was sent. */
export interface AnsweredBeat {
  readonly self: Incarnation
  /** Null: the others have let this incarnation go. */
  readonly answer: BeatAnswer | null
  /** Instant before the request; what it confirms is counted from here. */
  readonly startedAt: number
  /** The view's version at that instant. */
  readonly known: bigint
}

export interface HeartbeatOptions {
  readonly cluster: string
  readonly tables: ClusterTables
  readonly clock: Clock
  readonly random: () => number
  readonly heartbeatMs: number
  readonly ttlMs: number
  readonly leaseMs: number
  readonly marker: () => bigint | null
  readonly known: () => bigint
  /** Whether the next beat is to ask who sweeps. */
  readonly asks: () => boolean
  readonly onAnswer: (beat: AnsweredBeat) => Promise<void>
  readonly onFailure: (error: unknown) => void
}

/** After a beat that failed the next one comes after this, then twice as much, up to the heartbeat. Milliseconds. */
const firstRetryMs = 25
/** A beat may take so long; the next ones go out meanwhile. */
const patience = 0.75
const overlap = 3

/** Says that an incarnation lives, every heartbeat ± 20 %, from `start` until `stop`. */
export class Heartbeat {
  readonly #options: HeartbeatOptions
  #cadence: Cadence | null = null
  #failures = 0
  #lastError: unknown = null

  constructor(options: HeartbeatOptions) {
    this.#options = options
  }

  /** What the last beat met; null when it was answered. */
  get lastError(): unknown {
    return this.#lastError
  }

  start(self: Incarnation): void {
    const { clock, random, heartbeatMs } = this.#options
    let number = 0
    this.#cadence = new Cadence(heartbeatMs, {
      clock,
      random,
      jitter: 0.2,
      // A beat on a dead connection waits for its timeout; on the others the next beat must get through.
      overlap,
      run: () => {
        number += 1
        return this.#beat(self, number)
      },
    })
    // Anywhere within the first interval: processes that are started together do not beat together.
    this.#cadence.start(random() * heartbeatMs)
  }

  /** Beats without waiting for the rest of the interval. */
  beatNow(): void {
    this.#cadence?.soon()
  }

  async stop(): Promise<void> {
    const cadence = this.#cadence
    this.#cadence = null
    await cadence?.stop()
    this.#lastError = null
  }

  async #beat(self: Incarnation, number: number): Promise<void> {
    const { cluster, tables, clock, marker, asks, leaseMs, ttlMs, known, onAnswer, onFailure } = this.#options
    const startedAt = clock.now()
    const knownAtStart = known()
    try {
      const answer = await traced<BeatTrace, BeatAnswer | null>(
        beatChannel,
        { cluster, id: self.id, incarnation: self.incarnation },
        async (context) => {
          const timeoutMs = ttlMs * patience
          const heard = await tables.beat(self, { marker: marker(), number, asks: asks(), leaseMs, timeoutMs })
          context.alive = heard !== null
          if (heard !== null) context.version = heard.version
          return heard
        },
      )
      this.#failures = 0
      this.#lastError = null
      await onAnswer({ self, answer, startedAt, known: knownAtStart })
    } catch (error) {
      this.#lastError = error
      onFailure(error)
      this.#retry()
    }
  }

  /**
   * A node that lost all its connections has to beat before the second look at its marker, and the beat that it sends at once
   * may have been given a connection of the pool that was dead already.
   */
  #retry(): void {
    const { heartbeatMs, random } = this.#options
    const pauseMs = Math.min(firstRetryMs * 2 ** Math.min(this.#failures, 16), heartbeatMs)
    this.#failures += 1
    this.#cadence?.soon(pauseMs * (0.5 + random()))
  }
}
