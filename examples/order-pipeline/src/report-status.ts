import type { ClusterDiscovery } from '@x/cluster-discovery'
import type { LeaderInput } from '@x/leader-input'
import type { NodeSettings, NodeStatus } from './messages.ts'
import type { Parent } from './parent.ts'
import type { Shop } from './shop.ts'

export interface StatusSources {
  readonly parent: Parent<NodeSettings>
  readonly cluster: ClusterDiscovery
  readonly input: LeaderInput<Shop>
  jobRuns(): number
}

const everyMs = 250

/** Tells the parent four times a second what this replica knows of the cluster, of the input, and of its own work. */
export const reportStatus = ({ parent, cluster, input, jobRuns }: StatusSources): Disposable => {
  let lag: NodeStatus['lag'] = null
  let measuring = false
  const measureLag = async (): Promise<void> => {
    if (measuring) return
    measuring = true
    // A database that does not answer has no lag to show; the next tick asks again.
    const measured = await input.lag().catch(() => null)
    lag = measured && { events: measured.events, oldestMs: measured.oldestMs }
    measuring = false
  }
  const timer = setInterval(() => {
    void measureLag()
    const { status, epoch } = input.health()
    parent.tell({
      type: 'node',
      members: cluster.nodes().map(({ name, state }) => ({ name, state })),
      viewVersion: cluster.version,
      input: status,
      epoch,
      lag,
      jobRuns: jobRuns(),
    })
  }, everyMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
