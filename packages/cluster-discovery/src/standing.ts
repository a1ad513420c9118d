import type { Clock } from '@x/lock-core/adapter'
import { type Membership, type MembershipStep, memberWhoAsks, nextMembership, selfAt } from './membership.ts'
import type { Metadata, Node } from './node.ts'
import type { ResolvedOptions } from './options.ts'
import type { Incarnation } from './tables.ts'

/** Where this process stands in the cluster: the one place that keeps the state whose steps membership.ts defines. */
export class Standing {
  /** As this node gives them, or will give them with its next join. */
  metadata: Metadata
  readonly #options: Pick<ResolvedOptions, 'cluster' | 'node'>
  readonly #clock: Clock
  #membership: Membership = { at: 'idle' }

  constructor(options: Pick<ResolvedOptions, 'cluster' | 'node'>, clock: Clock) {
    this.#options = options
    this.#clock = clock
    this.metadata = options.node.metadata
  }

  get at(): Membership['at'] {
    return this.#membership.at
  }

  /** This node as it may call itself at this moment. */
  get self(): Node {
    const { id, name, address } = this.#options.node
    return selfAt(this.#membership, this.#clock.now(), {
      id,
      incarnation: 0n,
      name,
      address,
      metadata: this.metadata,
      state: 'joining',
      joinedAt: new Date(0),
      version: 0n,
    })
  }

  /** The life in which it asks. @throws {NodeEvictedError}, {ConfigurationError} unless it is a member */
  asking(what: string): Incarnation {
    const { id, incarnation } = memberWhoAsks(this.#membership, this.#options.cluster, what)
    return { id, incarnation }
  }

  /** Where it stands afterwards; whether the step has changed anything. */
  step(step: MembershipStep): { readonly now: Membership; readonly changed: boolean } {
    const before = this.#membership
    this.#membership = nextMembership(before, step)
    return { now: this.#membership, changed: this.#membership !== before }
  }
}
