import type { Logger } from '@x/lock-core'
import type { Clock } from '@x/lock-core/adapter'
import { Cadence } from './cadence.ts'
import type { Contact } from './contact.ts'
import type { Node } from './node.ts'
import type { SweeperLook, SweeperSeen, Sweeping } from './record.ts'
import { asksWhoSweeps, standsBy } from './seniority.ts'
import { confirmMs, Suspicion } from './suspicion.ts'
import type { ClusterTables, Incarnation, SweeperLease } from './tables.ts'
import { downChannel, heldChannel } from './tracing.ts'

/** What a node does about the dead. One sweeps, two watch the sweeper, the others do nothing. */
type Role =
  | { readonly role: 'none' }
  | { readonly role: 'standby'; readonly self: Incarnation; readonly of: SweeperSeen }
  | { readonly role: 'sweeper'; readonly lease: SweeperLease; readonly suspicion: Suspicion; looks: number }

export interface SweeperOptions {
  readonly cluster: string
  readonly tables: ClusterTables
  readonly contact: Contact
  readonly clock: Clock
  readonly random: () => number
  readonly logger?: Logger | undefined
  readonly ttlMs: number
  /** Between two looks. */
  readonly sweepMs: number
  /** A sweeper that has not looked for so long is replaced. */
  readonly leaseMs: number
  /** Whether this node would notice that the sweeper's connection broke. */
  readonly canWatchMarkers: () => boolean
}

/** Tombstones are kept so long, and so many. */
const tombstoneTtls = 10
const tombstoneCount = 5_000

/**
 * The part of a node that lets the dead go. The lease in the tables has an epoch, but nothing unsafe would happen with two
 * sweepers at once: each judgement is repeated by the DELETE that carries it out.
 */
export class Sweeper {
  readonly #options: SweeperOptions
  readonly #cadence: Cadence
  #role: Role = { role: 'none' }
  #goneSeen: { readonly look: SweeperLook; readonly at: number } | null = null
  #active = false
  #taking = false

  constructor(options: SweeperOptions) {
    this.#options = options
    const { clock, random, sweepMs } = options
    this.#cadence = new Cadence(sweepMs, { clock, random, jitter: 0, run: () => this.#run() })
  }

  get role(): Role['role'] {
    return this.#role.role
  }

  /** Whether the next beat of this node is to ask who sweeps. */
  asks(id: string, members: readonly Node[]): boolean {
    if (this.#role.role !== 'none') return this.#role.role === 'standby'
    return asksWhoSweeps(id, members, this.#options.random)
  }

  /**
   * @param sweeping who sweeps, of a beat that asked; null of another
   * @param members among whom it stands by, or not
   */
  async heard(self: Incarnation, sweeping: Sweeping | null, members: readonly Node[]): Promise<void> {
    this.#active = true
    if (sweeping === null || this.#role.role === 'sweeper') return
    const { sweeper, isWanted } = sweeping
    if (isWanted) return this.#take(self)
    if (sweeper === null) return
    // The answer to our own take was lost.
    if (sweeper.id === self.id && sweeper.incarnation === self.incarnation) return this.#sweep(sweeper, null)
    const watches = this.#options.canWatchMarkers() && standsBy(self, sweeper, members)
    if (!watches) await this.#rest()
    else if (this.#role.role !== 'standby') {
      this.#role = { role: 'standby', self, of: sweeper }
      this.#cadence.start(this.#options.random() * this.#options.sweepMs)
    } else this.#role = { role: 'standby', self, of: sweeper }
  }

  /** Ends whatever it does; the lease of a member that leaves is free at once. */
  async stop(): Promise<void> {
    this.#active = false
    await this.#rest()
  }

  async #rest(): Promise<void> {
    this.#role = { role: 'none' }
    this.#goneSeen = null
    await this.#cadence.stop()
  }

  async #take(self: Incarnation): Promise<void> {
    if (this.#taking) return
    this.#taking = true
    try {
      const epoch = await this.#options.tables.takeLease(self, this.#options.leaseMs)
      if (epoch !== null) this.#sweep({ ...self, epoch }, null)
    } catch (error) {
      this.#failed(error, 'taking the sweeper lease failed')
    } finally {
      this.#taking = false
    }
  }

  /** @param crashed the sweeper before us, when we saw it crash */
  #sweep(
    lease: SweeperLease,
    crashed: { readonly of: SweeperSeen; readonly look: SweeperLook; readonly at: number } | null,
  ): void {
    if (!this.#active) return
    const { ttlMs, logger, cluster } = this.#options
    const suspicion = new Suspicion({ ttlMs })
    // Seen without its marker by the standby: the first look of the new sweeper is the confirming one.
    if (crashed !== null) {
      const { id, incarnation } = crashed.of
      suspicion.remember({ id, incarnation, lastBeat: crashed.look.lastBeat, stale: false, gone: true }, crashed.at)
    }
    logger?.info({ cluster, epoch: lease.epoch }, 'this node sweeps')
    this.#role = { role: 'sweeper', lease, suspicion, looks: 0 }
    this.#goneSeen = null
    this.#cadence.start(0)
  }

  async #run(): Promise<void> {
    const role = this.#role
    try {
      if (role.role === 'sweeper') await this.#look(role)
      else if (role.role === 'standby') await this.#watch(role)
    } catch (error) {
      this.#failed(error, `${role.role} could not look`)
    }
  }

  async #look(role: Extract<Role, { role: 'sweeper' }>): Promise<void> {
    const { tables, clock, contact, logger, cluster, ttlMs, sweepMs } = this.#options
    const { lease, suspicion } = role
    const startedAt = clock.now()
    const look = await tables.look(lease)
    if (look === null) {
      logger?.info({ cluster, epoch: lease.epoch }, 'another node sweeps')
      if (this.#role === role) this.#role = { role: 'none' }
      return
    }
    contact.answered(startedAt, clock.now())
    const verdict = suspicion.judge(look, startedAt, contact.lengthMs(startedAt), confirmMs(contact.roundTripMs, ttlMs))
    if (verdict.held !== null) {
      heldChannel.publish({ cluster, ...verdict.held })
      logger?.warn({ cluster, ...verdict.held }, 'many nodes fell silent at once; they are given one more ttl')
    }
    if (verdict.stale.length > 0) await this.#letGo(lease, verdict.stale, 'ttl')
    if (verdict.crashed.length > 0) await this.#letGo(lease, verdict.crashed, 'crash')
    if (verdict.lookAgainMs !== null) this.#cadence.soon(verdict.lookAgainMs)
    role.looks += 1
    if (role.looks % Math.ceil(ttlMs / sweepMs) === 0) await tables.prune(tombstoneTtls * ttlMs, tombstoneCount)
  }

  async #letGo(
    lease: SweeperLease,
    suspects: Parameters<ClusterTables['down']>[1],
    cause: 'ttl' | 'crash',
  ): Promise<void> {
    const { tables, logger, cluster } = this.#options
    for (const { id, incarnation } of await tables.down(lease, suspects, cause)) {
      downChannel.publish({ cluster, id, incarnation, cause })
      logger?.warn({ cluster, id, incarnation, cause }, 'a node is down')
    }
  }

  async #watch(role: Extract<Role, { role: 'standby' }>): Promise<void> {
    const { tables, clock, contact, ttlMs } = this.#options
    const startedAt = clock.now()
    const look = await tables.watchSweeper()
    contact.answered(startedAt, clock.now())
    const seen = this.#goneSeen
    const waitMs = confirmMs(contact.roundTripMs, ttlMs)
    if (look === null || !look.gone || look.epoch !== role.of.epoch) {
      this.#goneSeen = null
    } else if (seen?.look.lastBeat !== look.lastBeat) {
      this.#goneSeen = { look, at: startedAt }
      this.#cadence.soon(waitMs)
    } else if (startedAt - seen.at < waitMs) {
      this.#cadence.soon(waitMs - (startedAt - seen.at))
    } else {
      const epoch = await tables.succeed(role.self, look)
      if (epoch !== null && this.#role.role === 'standby') {
        this.#sweep({ ...role.self, epoch }, { of: role.of, look, at: seen.at })
      }
    }
  }

  #failed(error: unknown, message: string): void {
    this.#options.contact.broke()
    this.#options.logger?.debug({ err: error, cluster: this.#options.cluster }, message)
  }
}
