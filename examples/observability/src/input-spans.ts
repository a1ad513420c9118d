import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import { context, type Span, SpanStatusCode, type Tracer, trace as tracing } from '@opentelemetry/api'
import type { BatchTrace, GapTrace, PoisonTrace, StepDownTrace, TermTrace } from '@x/leader-input'

/**
 * A span for each term, with what was parked, halted at or found missing in it as events, and in it a span for each
 * transaction. What the handler itself traces is not below it: a span is no active context.
 *
 * @returns a function that ends it
 */
export function inputSpans(tracer: Tracer): () => void {
  /** By input: a process leads each of them once at most. */
  const terms = new Map<string, Span>()
  const batches = new WeakMap<object, Span>()

  const listeners: Readonly<Record<string, (message: unknown) => void>> = {
    leading(message) {
      const { input, epoch } = message as TermTrace
      terms.set(
        input,
        tracer.startSpan('input term', { attributes: { 'input.name': input, 'input.epoch': `${epoch}` } }),
      )
    },
    'stepped-down'(message) {
      const { input, reason } = message as StepDownTrace
      terms.get(input)?.setAttribute('input.ended', reason)
      terms.get(input)?.end()
      terms.delete(input)
    },
    parked: (message) => note('parked', message as PoisonTrace),
    halted: (message) => note('halted', message as PoisonTrace),
    gap(message) {
      const { input, fromSeq, toSeq } = message as GapTrace
      terms.get(input)?.addEvent('gap', { 'input.from_seq': `${fromSeq}`, 'input.to_seq': `${toSeq}` })
    },
  }
  const note = (what: string, { input, location, seq }: PoisonTrace): void => {
    terms.get(input)?.addEvent(what, { 'input.location': location, 'input.seq': `${seq}` })
  }
  const handlers = {
    start(trace: BatchTrace) {
      const { input, epoch, events, parked, attempt } = trace
      const term = terms.get(input)
      const attributes = {
        'input.name': input,
        'input.epoch': `${epoch}`,
        'input.events': events,
        'input.parked': parked,
        'input.attempt': attempt,
      }
      const parent = term === undefined ? context.active() : tracing.setSpan(context.active(), term)
      batches.set(trace, tracer.startSpan('input batch', { attributes }, parent))
    },
    error(trace: BatchTrace & { error: unknown }) {
      const { error } = trace
      batches.get(trace)?.recordException(error instanceof Error ? error : String(error))
      batches.get(trace)?.setStatus({ code: SpanStatusCode.ERROR })
    },
    asyncEnd(trace: BatchTrace) {
      const span = batches.get(trace)
      if (trace.outcome !== undefined) span?.setAttribute('input.outcome', trace.outcome)
      span?.end()
    },
  }

  const channel = tracingChannel<unknown, BatchTrace>('coordination:input.batch')
  channel.subscribe(handlers as Parameters<typeof channel.subscribe>[0])
  for (const [name, listener] of Object.entries(listeners)) subscribe(`coordination:input.${name}`, listener)
  return () => {
    channel.unsubscribe(handlers as Parameters<typeof channel.unsubscribe>[0])
    for (const [name, listener] of Object.entries(listeners)) unsubscribe(`coordination:input.${name}`, listener)
    for (const span of terms.values()) span.end()
  }
}
