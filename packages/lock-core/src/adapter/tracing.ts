import { type Channel, channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import { hasErrorCode } from '../errors.ts'
import type { Lock, LockLostReason, LockMode } from '../locker.ts'
import { monotonicNow } from './clock.ts'

/** What the channel `coordination:lock.acquire` carries; fields without a value yet are filled in before `asyncEnd`. */
export interface AcquireTrace {
  readonly key: string
  readonly mode: LockMode
  /** True for `acquire`, false for `tryAcquire`. */
  readonly waits: boolean
  outcome?: 'acquired' | 'contended' | 'timeout' | 'aborted' | 'error'
  /** Milliseconds from the call to its outcome. */
  waitMs?: number
  fencingToken?: bigint | null
  /** Operations in the statement that was granted, where the adapter knows. */
  batchSize?: number
}

/** What the channel `coordination:lock.release` carries. */
export interface ReleaseTrace {
  readonly key: string
  readonly mode: LockMode
  readonly fencingToken: bigint | null
  /** Milliseconds for which the lock was held. */
  readonly holdMs: number
}

/** What the channel `coordination:lock.refresh` carries. */
export interface RefreshTrace {
  readonly key: string
  readonly mode: LockMode
  readonly fencingToken: bigint | null
  readonly ttlMs: number
}

/** What the plain channel `coordination:lock.lost` carries. */
export interface LostTrace {
  readonly key: string
  readonly mode: LockMode
  readonly fencingToken: bigint | null
  readonly reason: LockLostReason
  /** Milliseconds for which the lock was held. */
  readonly holdMs: number
}

/** `tracing:coordination:lock.acquire:start`, `:end`, `:asyncStart`, `:asyncEnd`, `:error`. */
export const acquireChannel: TracingChannel<unknown, AcquireTrace> =
  /* @__PURE__ */ tracingChannel('coordination:lock.acquire')
/** `tracing:coordination:lock.release:*`. */
export const releaseChannel: TracingChannel<unknown, ReleaseTrace> =
  /* @__PURE__ */ tracingChannel('coordination:lock.release')
/** `tracing:coordination:lock.refresh:*`. */
export const refreshChannel: TracingChannel<unknown, RefreshTrace> =
  /* @__PURE__ */ tracingChannel('coordination:lock.refresh')
/** `coordination:lock.lost`. */
export const lostChannel: Channel = /* @__PURE__ */ channel('coordination:lock.lost')

/** Tells `coordination:lock.lost`. */
export function publishLoss({ key, mode, fencingToken }: Lock, reason: LockLostReason, holdMs: number): void {
  lostChannel.publish({ key, mode, fencingToken, reason, holdMs } satisfies LostTrace)
}

/**
 * Runs `fn` inside a tracing channel; without subscribers it is a plain call. `fn` may fill in fields of `context` before
 * it settles. Contexts carry keys, outcomes and times, never a connection string.
 */
export function traced<Context extends object, T>(
  tracing: TracingChannel<unknown, Context>,
  context: Context,
  fn: (context: Context) => Promise<T>,
): Promise<T> {
  try {
    return tracing.hasSubscribers ? tracing.tracePromise(() => fn(context), context) : fn(context)
  } catch (error) {
    return Promise.reject(error)
  }
}

/**
 * Runs an acquire inside `coordination:lock.acquire` and fills in how it ended. `fn` may fill in `batchSize`.
 */
export function tracedAcquire<L extends Lock | null>(
  fields: {
    readonly key: string
    readonly mode: LockMode
    readonly waits: boolean
    /** The caller's, to tell a wait that he ended from one that failed. */
    readonly signal?: AbortSignal | undefined
  },
  fn: (trace: AcquireTrace | null) => Promise<L>,
): Promise<L> {
  if (!acquireChannel.hasSubscribers) return fn(null)
  const trace: AcquireTrace = { key: fields.key, mode: fields.mode, waits: fields.waits }
  const startedAt = monotonicNow()
  return acquireChannel.tracePromise(async () => {
    try {
      const lock = await fn(trace)
      trace.outcome = lock === null ? 'contended' : 'acquired'
      trace.fencingToken = lock?.fencingToken ?? null
      return lock
    } catch (error) {
      trace.outcome = outcomeOf(error, fields.signal)
      throw error
    } finally {
      trace.waitMs = monotonicNow() - startedAt
    }
  }, trace)
}

/**
 * The same for an attempt at several keys: one event for each key, so that acquires and releases balance. `fn` resolves to a
 * lock for each of `keys`, in their order, or to null.
 */
export async function tracedAcquireMany<L extends Lock>(
  fields: { readonly keys: readonly string[]; readonly mode: LockMode; readonly signal?: AbortSignal | undefined },
  fn: () => Promise<readonly L[] | null>,
): Promise<readonly L[] | null> {
  if (!acquireChannel.hasSubscribers) return fn()
  const { keys, mode, signal } = fields
  const first = new Map<string, number>()
  for (const [index, key] of keys.entries()) if (!first.has(key)) first.set(key, index)
  const attempt = fn()
  const traces = [...first].map(([key, index]) =>
    tracedAcquire({ key, mode, waits: false, signal }, async (trace) => {
      const lock = (await attempt)?.[index] ?? null
      if (lock !== null && trace !== null) trace.batchSize = first.size
      return lock
    }),
  )
  await Promise.allSettled(traces)
  return attempt
}

function outcomeOf(error: unknown, signal: AbortSignal | undefined): 'timeout' | 'aborted' | 'error' {
  if (hasErrorCode(error, 'LOCK_TIMEOUT')) return 'timeout'
  return signal?.aborted === true && error === signal.reason ? 'aborted' : 'error'
}
