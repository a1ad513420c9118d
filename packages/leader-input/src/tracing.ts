import { type Channel, channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel'

/** What `coordination:input.batch` carries: one transaction of a leader. */
export interface BatchTrace {
  readonly input: string
  readonly epoch: bigint
  /** Events that the handler is given. */
  readonly events: number
  /** Events that are put aside in the same transaction. */
  readonly parked: number
  readonly attempt: number
  /** Filled in before the end; of the others the error is in the channel. */
  outcome?: 'committed' | 'handler-failed' | 'fenced' | 'error'
}

/** What the plain channel `coordination:input.leading` carries. */
export interface TermTrace {
  readonly input: string
  readonly epoch: bigint
}

/** What the plain channel `coordination:input.stepped-down` carries. */
export interface StepDownTrace extends TermTrace {
  /**
   * `stopped`: by `run()`'s or `events()`'s signal, or by `close()`. `lost`: the lock is. `fenced`: the database does not let
   * this leader move the cursor any more. `failed`: something else, which is in `health().lastError` and in the log.
   */
  readonly reason: 'stopped' | 'lost' | 'fenced' | 'failed'
}

/** What the plain channels `coordination:input.parked` and `coordination:input.halted` carry. */
export interface PoisonTrace {
  readonly input: string
  readonly epoch: bigint
  readonly location: string
  readonly seq: bigint
  readonly idempotencyKey: string
}

/** What the plain channel `coordination:input.gap` carries: changes were dropped over the retention cap. */
export interface GapTrace {
  readonly input: string
  readonly fromSeq: bigint | null
  readonly toSeq: bigint | null
}

export const batchChannel: TracingChannel<unknown, BatchTrace> =
  /* @__PURE__ */ tracingChannel('coordination:input.batch')
export const leadingChannel: Channel = /* @__PURE__ */ channel('coordination:input.leading')
export const steppedDownChannel: Channel = /* @__PURE__ */ channel('coordination:input.stepped-down')
export const parkedChannel: Channel = /* @__PURE__ */ channel('coordination:input.parked')
export const haltedChannel: Channel = /* @__PURE__ */ channel('coordination:input.halted')
export const gapChannel: Channel = /* @__PURE__ */ channel('coordination:input.gap')
