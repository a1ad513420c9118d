import type { Scenario } from '../scenario.ts'
import { clusterScenario } from './cluster.ts'
import { failoverScenario } from './failover.ts'
import { feedScenario } from './feed.ts'
import { lockScenario } from './locks.ts'

export const scenarios: readonly Scenario[] = [
  lockScenario({
    name: 'lock-table',
    adapter: 'table',
    about: 'leases, waiting in line and woken by NOTIFY',
  }),
  lockScenario({
    name: 'lock-table-pooled',
    adapter: 'table-poll',
    pooled: true,
    about: 'leases through PgBouncer in transaction mode',
  }),
  failoverScenario,
  lockScenario({
    name: 'lock-advisory',
    adapter: 'advisory',
    about: 'session locks, woken by NOTIFY',
  }),
  lockScenario({
    name: 'lock-advisory-server',
    adapter: 'advisory-server',
    about: 'session locks that wait in the server',
  }),
  clusterScenario,
  feedScenario,
]
