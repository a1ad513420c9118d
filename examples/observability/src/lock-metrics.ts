import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Meter } from '@opentelemetry/api'
import type { AcquireTrace, LostTrace, RefreshTrace, ReleaseTrace } from '@x/lock-core/adapter'
import { onEnd } from './on-end.ts'

/**
 * The metrics of docs/operations.md that come from locks. Keys are not attributes: there may be millions of them; the spans
 * carry them.
 *
 * @returns a function that ends it
 */
export function lockMetrics(meter: Meter): () => void {
  const acquires = meter.createCounter('coordination.lock.acquires', { description: 'Acquires by outcome' })
  const waits = meter.createHistogram('coordination.lock.wait', { unit: 'ms', description: 'Call to outcome' })
  const releases = meter.createCounter('coordination.lock.releases')
  const refreshes = meter.createCounter('coordination.lock.refreshes')
  const errors = meter.createCounter('coordination.lock.errors', {
    description: 'Operations that failed, by operation',
  })
  const lost = meter.createCounter('coordination.lock.lost', { description: 'Locks lost without a release, by reason' })
  const holds = meter.createHistogram('coordination.lock.hold', { unit: 'ms', description: 'Grant to release or loss' })
  const held = meter.createUpDownCounter('coordination.lock.held', { description: 'Locks that this process holds' })

  const ends = [
    onEnd<AcquireTrace>('coordination:lock.acquire', ({ outcome, mode, waitMs }) => {
      acquires.add(1, { outcome, mode })
      if (waitMs !== undefined) waits.record(waitMs, { outcome, mode })
      if (outcome === 'acquired') held.add(1, { mode })
      if (outcome === 'error') errors.add(1, { operation: 'acquire' })
    }),
    onEnd<ReleaseTrace>('coordination:lock.release', ({ mode, holdMs }, failed) => {
      releases.add(1, { mode })
      holds.record(holdMs, { mode })
      held.add(-1, { mode })
      if (failed) errors.add(1, { operation: 'release' })
    }),
    onEnd<RefreshTrace>('coordination:lock.refresh', ({ mode }, failed) => {
      if (failed) errors.add(1, { operation: 'refresh' })
      else refreshes.add(1, { mode })
    }),
  ]
  const onLost = (message: unknown): void => {
    const { mode, reason, holdMs } = message as LostTrace
    lost.add(1, { reason, mode })
    holds.record(holdMs, { mode })
    held.add(-1, { mode })
  }
  subscribe('coordination:lock.lost', onLost)
  return () => {
    for (const end of ends) end()
    unsubscribe('coordination:lock.lost', onLost)
  }
}
