import type { Meter } from '@opentelemetry/api'
import type { ClusterDiscovery } from '@x/cluster-discovery'
import type { InputHealth, Lag } from '@x/leader-input'
import type { LeaderElector } from '@x/lock-core'

/** What an input can say of itself; a `LeaderInput` fits. */
interface ObservedInput {
  readonly name: string
  health(): InputHealth
  lag(): Promise<Lag>
}

/** What is looked at when metrics are collected, and not told by a channel. */
export interface Observed {
  readonly electors?: Readonly<Record<string, Pick<LeaderElector, 'isLeader'>>>
  readonly clusters?: Readonly<Record<string, Pick<ClusterDiscovery, 'nodes' | 'viewAgeMs'>>>
  readonly inputs?: readonly ObservedInput[]
}

/** Gauges for leadership, membership and the feed's lag. `lag()` asks the database, once a collection. */
export function gauges(meter: Meter, { electors = {}, clusters = {}, inputs = [] }: Observed): void {
  meter
    .createObservableGauge('coordination.leader', { description: '1 in the process that leads' })
    .addCallback((result) => {
      for (const [name, elector] of Object.entries(electors))
        result.observe(elector.isLeader() ? 1 : 0, { elector: name })
      for (const input of inputs) result.observe(input.health().status === 'leading' ? 1 : 0, { elector: input.name })
    })
  meter.createObservableGauge('coordination.cluster.nodes').addCallback((result) => {
    for (const [name, cluster] of Object.entries(clusters)) result.observe(cluster.nodes().length, { cluster: name })
  })
  meter.createObservableGauge('coordination.cluster.view_age', { unit: 'ms' }).addCallback((result) => {
    for (const [name, cluster] of Object.entries(clusters)) result.observe(cluster.viewAgeMs, { cluster: name })
  })
  const lagMs = meter.createObservableGauge('coordination.input.lag', {
    unit: 'ms',
    description: 'Age of the oldest change not handled',
  })
  const behind = meter.createObservableGauge('coordination.input.events_behind')
  const parked = meter.createObservableGauge('coordination.input.parked_keys')
  const logBytes = meter.createObservableGauge('coordination.input.log_size', { unit: 'By' })
  meter.addBatchObservableCallback(
    async (result) => {
      for (const input of inputs) {
        const lag = await input.lag()
        const attributes = { input: input.name }
        result.observe(lagMs, lag.oldestMs, attributes)
        result.observe(behind, lag.events, attributes)
        result.observe(parked, lag.parkedKeys, attributes)
        result.observe(logBytes, lag.logBytes, attributes)
      }
    },
    [lagMs, behind, parked, logBytes],
  )
}
