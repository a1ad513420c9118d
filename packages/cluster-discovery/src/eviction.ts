import type { Logger } from '@x/lock-core'
import type { Clock, Timer } from '@x/lock-core/adapter'
import type { Lifelines } from './lifelines.ts'
import type { EvictionCause } from './membership.ts'
import type { ResolvedOptions } from './options.ts'
import type { Standing } from './standing.ts'
import type { Incarnation } from './tables.ts'
import { selfDownChannel } from './tracing.ts'
import type { Turns } from './turns.ts'

export interface EvictionOptions {
  readonly options: ResolvedOptions
  readonly lines: Lifelines
  readonly standing: Standing
  readonly turns: Turns
  readonly clock: Clock
  readonly random: () => number
  readonly logger: Logger | undefined
  readonly onSelfDown: (cause: EvictionCause) => void
  /** Whether it may come back; not once it is being closed. */
  readonly isOpen: () => boolean
  /** Makes it a member again, as a new incarnation; rejects when that fails. */
  readonly joinAgain: () => Promise<void>
  /** It will not come back by itself. */
  readonly onEnded: () => Promise<void>
}

/**
 * What follows when the others have let this node go: it says so, and comes back within a heartbeat, or about a heartbeat
 * after each attempt that failed. A node whose id another process has taken does not: the two would evict each other for
 * ever.
 */
export class Eviction {
  readonly #options: EvictionOptions
  #timer: Timer | null = null
  #lastError: unknown = null

  constructor(options: EvictionOptions) {
    this.#options = options
  }

  /** Why it could not come back, while it tries to; else null. */
  get lastError(): unknown {
    return this.#lastError
  }

  /** A beat found no row of this incarnation: the others have let it go, or another process has its id. */
  async noticed(self: Incarnation): Promise<void> {
    const { options, lines, standing, turns, random, logger, onSelfDown, onEnded } = this.#options
    const { cluster, rejoin, heartbeatMs } = options
    const fate = await lines.tables.fate(self.id)
    const cause = fate !== null && fate.incarnation > self.incarnation ? 'replaced' : 'evicted'
    if (!standing.step({ step: 'let-go', incarnation: self.incarnation, cause }).changed) return
    logger?.warn({ cluster, ...self, cause }, 'this node is no member any more')
    selfDownChannel.publish({ cluster, ...self, cause })
    onSelfDown(cause)
    // Not awaited: this runs inside a beat, and stopping waits for beats.
    void turns.take(async () => {
      if (standing.at !== 'evicted') return
      await lines.stopBeating()
      if (cause === 'evicted' && rejoin) this.#joinIn(random() * heartbeatMs)
      else await onEnded()
    })
  }

  /** The node stays away. Called in a turn: an attempt that is being made is a turn of its own. */
  stay(): void {
    this.#lastError = null
    this.#timer?.cancel()
    this.#timer = null
  }

  #joinIn(delayMs: number): void {
    const { options, standing, turns, clock, random, logger, isOpen, joinAgain } = this.#options
    const { cluster, node, heartbeatMs } = options
    if (!isOpen()) return
    this.#timer = clock.schedule(() => {
      this.#timer = null
      void turns.take(async () => {
        this.#lastError = null
        if (!isOpen() || standing.at !== 'evicted') return
        try {
          await joinAgain()
        } catch (err) {
          this.#lastError = err
          logger?.debug({ err, cluster, id: node.id }, 'joining again failed; it will be tried again')
          this.#joinIn(heartbeatMs * (0.5 + random()))
        }
      })
    }, delayMs)
  }
}
