import type { DownCause, Node } from './node.ts'

/**
 * What happens in a cluster, in version order. Several events can carry one version: a sweep lets several nodes go at
 * once, and a new incarnation ends the old one and joins in one step.
 */
export type ClusterEvent =
  /** The members as of a version: the first event of each watch, and again for a reader that fell too far behind. */
  | { readonly type: 'snapshot'; readonly version: bigint; readonly nodes: readonly Node[] }
  | { readonly type: 'join'; readonly version: bigint; readonly node: Node }
  | { readonly type: 'leave'; readonly version: bigint; readonly node: Node }
  /** Metadata or state of a member changed (it began to drain, for instance). */
  | { readonly type: 'update'; readonly version: bigint; readonly node: Node; readonly previous: Node }
  | { readonly type: 'down'; readonly version: bigint; readonly node: Node; readonly cause: DownCause }
  /** The listener was away for `gapMs` milliseconds; what changed meanwhile has been delivered before this event. */
  | { readonly type: 'resync'; readonly version: bigint; readonly gapMs: number }
  /** The others have let this node go. */
  | { readonly type: 'self-down'; readonly version: bigint; readonly cause: 'evicted' | 'replaced' }

/** The event of one type. */
export type ClusterEventOf<T extends ClusterEvent['type']> = Extract<ClusterEvent, { type: T }>

/** Every type there is. */
export const clusterEventTypes: readonly ClusterEvent['type'][] = [
  'snapshot',
  'join',
  'leave',
  'update',
  'down',
  'resync',
  'self-down',
]
