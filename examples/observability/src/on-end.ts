import { tracingChannel } from 'node:diagnostics_channel'

/**
 * The end of each operation of a tracing channel, with whether it threw.
 *
 * @returns a function that ends it
 */
export function onEnd<Trace extends object>(name: string, fn: (trace: Trace, failed: boolean) => void): () => void {
  const channel = tracingChannel<unknown, Trace>(name)
  const handlers = { asyncEnd: (trace: Trace) => fn(trace, 'error' in trace) }
  channel.subscribe(handlers as Parameters<typeof channel.subscribe>[0])
  return () => channel.unsubscribe(handlers as Parameters<typeof channel.unsubscribe>[0])
}
