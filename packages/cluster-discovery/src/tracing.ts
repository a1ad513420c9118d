import { type Channel, channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import type { DownCause } from './node.ts'

/** What `coordination:cluster.join`, `.leave`, `.update` and `.read` carry. */
export interface ClusterTrace {
  readonly cluster: string
  readonly id: string
  /** Filled in before the end. */
  version?: bigint
  /** Records that a read brought. */
  records?: number
}

/** What `coordination:cluster.beat` carries. */
export interface BeatTrace {
  readonly cluster: string
  readonly id: string
  readonly incarnation: bigint
  alive?: boolean
  version?: bigint
}

/** What the plain channel `coordination:cluster.down` carries, in the process that sweeps. */
export interface DownTrace {
  readonly cluster: string
  readonly id: string
  readonly incarnation: bigint
  readonly cause: DownCause
}

/** What the plain channel `coordination:cluster.held` carries: so many fell silent at once that the sweeper waits. */
export interface HeldTrace {
  readonly cluster: string
  readonly doubtful: number
  readonly members: number
  readonly remainingMs: number
}

/** What the plain channel `coordination:cluster.self-down` carries: the others let this node go. */
export interface SelfDownTrace {
  readonly cluster: string
  readonly id: string
  readonly incarnation: bigint
  readonly cause: 'evicted' | 'replaced'
}

export const joinChannel: TracingChannel<unknown, ClusterTrace> =
  /* @__PURE__ */ tracingChannel('coordination:cluster.join')
export const leaveChannel: TracingChannel<unknown, ClusterTrace> =
  /* @__PURE__ */ tracingChannel('coordination:cluster.leave')
export const updateChannel: TracingChannel<unknown, ClusterTrace> =
  /* @__PURE__ */ tracingChannel('coordination:cluster.update')
export const readChannel: TracingChannel<unknown, ClusterTrace> =
  /* @__PURE__ */ tracingChannel('coordination:cluster.read')
export const beatChannel: TracingChannel<unknown, BeatTrace> =
  /* @__PURE__ */ tracingChannel('coordination:cluster.beat')
export const downChannel: Channel = /* @__PURE__ */ channel('coordination:cluster.down')
export const heldChannel: Channel = /* @__PURE__ */ channel('coordination:cluster.held')
export const selfDownChannel: Channel = /* @__PURE__ */ channel('coordination:cluster.self-down')
