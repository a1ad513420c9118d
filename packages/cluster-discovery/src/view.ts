import type { ClusterEvent } from './cluster-event.ts'
import { type DownCause, isMember, type Node, type NodeRecord } from './node.ts'

/** What was read of a cluster in one snapshot. */
export type Reading = {
  /** The cluster's version in that snapshot. */
  readonly version: bigint
  readonly records: readonly NodeRecord[]
} & (
  | {
      /** Every member there is. */
      readonly scope: 'full'
      /** Version of the newest death that is forgotten: whoever is missing and was a member later has left. */
      readonly prunedDeath: bigint
    }
  /** Every record that changed after the version the reader knew. */
  | { readonly scope: 'delta' }
)

/** How many of those who have gone a view remembers, newest first. */
const rememberedTombstones = 1_000

/**
 * The cluster as one node knows it. Readings are folded into it; each fold says what happened, so that whoever folds
 * these events over the snapshot before them has the same members. Knows no clock and no database.
 */
export class View {
  #version = -1n
  readonly #members = new Map<string, Node>()
  readonly #tombstones = new Map<string, Node>()
  #sorted: readonly Node[] | null = null

  /** The version up to which everything is known; -1 before the first reading. */
  get version(): bigint {
    return this.#version
  }

  /** Members by incarnation, which is the order in which they joined. The same array until something changes. */
  members(): readonly Node[] {
    this.#sorted ??= Object.freeze([...this.#members.values()].sort(byIncarnation))
    return this.#sorted
  }

  /** Those who have gone, as far as they are remembered. */
  tombstones(): readonly Node[] {
    return [...this.#tombstones.values()].sort(byIncarnation)
  }

  snapshot(): Extract<ClusterEvent, { type: 'snapshot' }> {
    return { type: 'snapshot', version: this.#version, nodes: this.members() }
  }

  member(id: string): Node | undefined {
    return this.#members.get(id)
  }

  /**
   * Folds a reading in. A delta that brings nothing new changes nothing; a full reading is the truth, whatever its version
   * (a failover may have lost the last versions).
   * @param isOneHistory whether what this view knows is known to belong to the history of the reading
   * @returns what happened, in version order
   */
  apply(reading: Reading, isOneHistory = true): ClusterEvent[] {
    if (reading.scope === 'delta' && reading.version <= this.#version) return []
    const events: ClusterEvent[] = []
    // A version that goes back is a failover's: what happened after ours is another history.
    const since = isOneHistory && this.#version <= reading.version ? this.#version : -1n
    for (const record of [...reading.records].sort(byVersion)) this.#fold(record, since, events)
    if (reading.scope === 'full') this.#dropUnlisted(reading, since, events)
    this.#version = reading.version
    if (events.length > 0) this.#sorted = null
    return events
  }

  /** @param since the version at which we knew everything; each member we know was one then */
  #fold(record: NodeRecord, since: bigint, events: ClusterEvent[]): void {
    const { node } = record
    const { version } = node
    const known = this.#members.get(node.id)
    if (known !== undefined && known.version === version && known.incarnation === node.incarnation) return
    if (known !== undefined && known.incarnation !== node.incarnation) {
      events.push(endOf(known, version, previousEnd(known, record, since)))
      this.#members.delete(node.id)
    }
    const current = this.#members.get(node.id)
    if (isMember(node.state)) {
      this.#members.set(node.id, node)
      this.#tombstones.delete(node.id)
      events.push(
        current === undefined ? { type: 'join', version, node } : { type: 'update', version, node, previous: current },
      )
      return
    }
    this.#members.delete(node.id)
    this.#bury(node)
    if (current !== undefined)
      events.push(endOf(node, version, node.state === 'left' ? 'left' : (record.cause ?? 'ttl')))
  }

  /** A full reading without a member we know, and without its tombstone: it went so long ago that the tombstone is gone. */
  #dropUnlisted(reading: Extract<Reading, { scope: 'full' }>, since: bigint, events: ClusterEvent[]): void {
    const listed = new Set(reading.records.map((record) => record.node.id))
    const nobodyDied = reading.prunedDeath <= since
    for (const known of this.members()) {
      if (listed.has(known.id) || !this.#members.has(known.id)) continue
      this.#members.delete(known.id)
      const end = nobodyDied || known.state === 'leaving' ? 'left' : 'ttl'
      events.push(endOf(known, reading.version, end))
    }
  }

  #bury(node: Node): void {
    this.#tombstones.delete(node.id)
    this.#tombstones.set(node.id, node)
    if (this.#tombstones.size <= rememberedTombstones) return
    for (const oldest of this.#tombstones.keys()) {
      this.#tombstones.delete(oldest)
      return
    }
  }
}

/** How the incarnation we knew ended, when the record is already about a later one. */
function previousEnd(known: Node, { previous, lastDeath }: NodeRecord, since: bigint): 'left' | DownCause {
  if (previous?.incarnation === known.incarnation) return previous.end
  return lastDeath <= since ? 'left' : 'replaced'
}

function endOf(node: Node, version: bigint, end: 'left' | DownCause): ClusterEvent {
  const ended: Node = isMember(node.state) ? { ...node, state: end === 'left' ? 'left' : 'down', version } : node
  return end === 'left' ? { type: 'leave', version, node: ended } : { type: 'down', version, node: ended, cause: end }
}

function byVersion(a: NodeRecord, b: NodeRecord): number {
  return compare(a.node.version, b.node.version) || (a.node.id < b.node.id ? -1 : 1)
}

function byIncarnation(a: Node, b: Node): number {
  return compare(a.incarnation, b.incarnation) || (a.id < b.id ? -1 : 1)
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
