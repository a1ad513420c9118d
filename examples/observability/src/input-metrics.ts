import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Meter } from '@opentelemetry/api'
import type { BatchTrace, GapTrace, PoisonTrace, TermTrace } from '@x/leader-input'
import { onEnd } from './on-end.ts'

/**
 * The metrics of docs/operations.md that come from inputs, in the process that leads them.
 *
 * @returns a function that ends it
 */
export function inputMetrics(meter: Meter): () => void {
  const batches = meter.createCounter('coordination.input.batches', {
    description: 'Transactions of a leader by outcome',
  })
  const events = meter.createCounter('coordination.input.events', { description: 'Changes handled and committed' })
  const parked = meter.createCounter('coordination.input.parked', {
    description: 'Changes put aside after their tries',
  })
  const halts = meter.createCounter('coordination.input.halts', {
    description: 'Tries after which an input stands still',
  })
  const gaps = meter.createCounter('coordination.input.gaps', { description: 'Terms that began with changes missing' })
  const terms = meter.createCounter('coordination.input.terms', { description: 'Times this process became the leader' })

  const ends = [
    onEnd<BatchTrace>('coordination:input.batch', ({ input, outcome, events: count }) => {
      batches.add(1, { input, outcome })
      if (outcome === 'committed') events.add(count, { input })
    }),
    onMessage<PoisonTrace>('coordination:input.parked', ({ input }) => parked.add(1, { input })),
    onMessage<PoisonTrace>('coordination:input.halted', ({ input }) => halts.add(1, { input })),
    onMessage<GapTrace>('coordination:input.gap', ({ input }) => gaps.add(1, { input })),
    onMessage<TermTrace>('coordination:input.leading', ({ input }) => terms.add(1, { input })),
  ]
  return () => {
    for (const end of ends) end()
  }
}

/** The channel's name says which of our types it carries. */
function onMessage<Trace>(name: string, fn: (trace: Trace) => void): () => void {
  const listener = (message: unknown): void => fn(message as Trace)
  subscribe(name, listener)
  return () => void unsubscribe(name, listener)
}
