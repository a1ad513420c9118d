/** What JSON can say. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** What a node says about itself; at most 16 KiB as JSON. */
export type Metadata = { readonly [key: string]: JsonValue }

/**
 * Where a node stands.
 *
 * - `joining`: not a member yet
 * - `up`: a member
 * - `leaving`: still a member, asks to be given no new work
 * - `left`: went in good order
 * - `down`: was let go by the others
 */
export type NodeState = 'joining' | 'up' | 'leaving' | 'left' | 'down'

/** One node as of one version of the cluster. Never changes: a change is another object. */
export interface Node {
  readonly id: string
  /** Counts the lives of an id: each join has a higher one. 0 before the first join. */
  readonly incarnation: bigint
  readonly name: string
  /** Where peers reach it, in whatever form the application agrees on. */
  readonly address: string | null
  readonly metadata: Metadata
  readonly state: NodeState
  /** On the database's clock. */
  readonly joinedAt: Date
  /** The version of the cluster at which this node last changed. */
  readonly version: bigint
}

/** Why a node was let go: no beat for a ttl, its process ended, or another process joined with its id. */
export type DownCause = 'ttl' | 'crash' | 'replaced'

/** Whether a node in this state is a member. */
export function isMember(state: NodeState): boolean {
  return state === 'up' || state === 'leaving' || state === 'joining'
}

/** A node as a row of the table says it: members and tombstones, and how the incarnation before ended. */
export interface NodeRecord {
  readonly node: Node
  /** Of a node that is down. */
  readonly cause: DownCause | null
  readonly previous: { readonly incarnation: bigint; readonly end: 'left' | DownCause } | null
  /** Version up to which earlier incarnations may have died; one that was a member later has left. 0: none has died. */
  readonly lastDeath: bigint
}
