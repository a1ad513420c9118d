export { type ClusterDiscovery, createClusterDiscovery } from './cluster-discovery.ts'
export type { ClusterEvent } from './cluster-event.ts'
export {
  createLibclusterDiscovery,
  type LibclusterDiscovery,
  type LibclusterDiscoveryOptions,
} from './libcluster.ts'
export type { JsonValue, Metadata, Node, NodeState } from './node.ts'
export type { ClusterDiscoveryOptions } from './options.ts'
export { rendezvous } from './rendezvous.ts'
export type { BeatTrace, ClusterTrace, DownTrace, HeldTrace, SelfDownTrace } from './tracing.ts'
