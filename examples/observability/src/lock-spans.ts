import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import { type Span, SpanStatusCode, type Tracer } from '@opentelemetry/api'
import type { AcquireTrace, LostTrace, RefreshTrace, ReleaseTrace } from '@x/lock-core/adapter'

type LockTrace = AcquireTrace | ReleaseTrace | RefreshTrace

/**
 * A span for each acquire, refresh and release, with the key, the outcome and the fencing token, and one without length for
 * each lock that was lost.
 *
 * @returns a function that ends it
 */
export function lockSpans(tracer: Tracer): () => void {
  const ends = ['acquire', 'refresh', 'release'].map((operation) => spansOf(tracer, operation))
  const onLost = (message: unknown): void => {
    // The channel's name says which of our types it carries.
    const { key, mode, reason, holdMs } = message as LostTrace
    tracer
      .startSpan('lock lost', {
        attributes: { 'lock.key': key, 'lock.mode': mode, 'lock.lost.reason': reason, 'lock.hold_ms': holdMs },
      })
      .end()
  }
  subscribe('coordination:lock.lost', onLost)
  return () => {
    for (const end of ends) end()
    unsubscribe('coordination:lock.lost', onLost)
  }
}

function spansOf(tracer: Tracer, operation: string): () => void {
  const spans = new WeakMap<object, Span>()
  const handlers = {
    start(trace: LockTrace) {
      const attributes = { 'lock.key': trace.key, 'lock.mode': trace.mode }
      spans.set(trace, tracer.startSpan(`lock ${operation}`, { attributes }))
    },
    error(trace: LockTrace & { error: unknown }) {
      const { error } = trace
      spans.get(trace)?.recordException(error instanceof Error ? error : String(error))
      spans.get(trace)?.setStatus({ code: SpanStatusCode.ERROR })
    },
    asyncEnd(trace: LockTrace) {
      const span = spans.get(trace)
      if ('outcome' in trace && trace.outcome !== undefined) span?.setAttribute('lock.outcome', trace.outcome)
      if (trace.fencingToken != null) span?.setAttribute('lock.fencing_token', String(trace.fencingToken))
      span?.end()
    },
  }
  const channel = tracingChannel<unknown, LockTrace>(`coordination:lock.${operation}`)
  channel.subscribe(handlers as Parameters<typeof channel.subscribe>[0])
  return () => channel.unsubscribe(handlers as Parameters<typeof channel.unsubscribe>[0])
}
