import type { ChildMessage, LoadStatus } from './messages.ts'
import type { Replica } from './picture.ts'
import { type Child, createProcesses, type Ending } from './processes.ts'

export interface FleetOptions {
  readonly database: { readonly url: string; readonly server: string; readonly name: string }
  readonly leaseMs: number
  readonly rate: number
  log(text: string): void
  /** A process ended that nobody had asked to. */
  fail(error: Error): void
}

/** The processes of one run, and what they last said of themselves. */
export interface Fleet extends AsyncDisposable {
  /** In the order in which they were started, those that were killed included. */
  readonly replicas: readonly Replica[]
  readonly load: LoadStatus | null
  startReplica(): Child
  /** A replica of the second service. */
  startIndexer(): Child
  startLoad(): Child
  /** The running replica that leads, as far as the replicas themselves say. */
  leader(): Child | null
  /** How many changes the leader has yet to handle, as it last said. */
  lag(): number | null
  stopReplicas(): Promise<void>
}

const loadConnections = 8

export const createFleet = ({ database, leaseMs, rate, log, fail }: FleetOptions): Fleet => {
  const replicas = new Map<Child, Replica>()
  const seen = new Set<string>()
  let load: LoadStatus | null = null
  let indexers = 0

  const hear = (child: Child, message: ChildMessage): void => {
    const replica = replicas.get(child)
    if (message.type === 'load') load = message
    if (message.type === 'node' && replica) replica.status = message
    if (message.type === 'note') {
      // Every replica sees every change of the cluster; one of them is enough to tell.
      if (message.once !== null && seen.has(message.once)) return
      if (message.once !== null) seen.add(message.once)
      log(message.once === null ? `${child.name} ${message.text}` : message.text)
    }
  }
  const bury = (child: Child, ending: Ending): void => {
    const replica = replicas.get(child)
    if (replica) replica.process = ending === 'killed' ? 'killed' : 'ended'
    if (ending === 'unexpected')
      fail(new Error(`${child.name} ended although nobody had asked it to; its last words are above`))
  }

  const processes = createProcesses(
    { server: database.server, database: database.name },
    { message: hear, line: (child, line) => log(`${child.name}: ${line}`), ended: bury },
  )
  const leader = (): Child | null => {
    const epochOf = (child: Child): bigint => replicas.get(child)?.status?.epoch ?? 0n
    const leaders = [...processes.children].filter(
      (child) => !child.isStopped && replicas.get(child)?.status?.input === 'leading',
    )
    return leaders.sort((a, b) => (epochOf(a) < epochOf(b) ? 1 : -1))[0] ?? null
  }

  const { url } = database
  return {
    get replicas() {
      for (const [child, replica] of replicas) {
        if (processes.children.has(child)) replica.process = child.isStopped ? 'stopped' : 'running'
      }
      return [...replicas.values()]
    },
    get load() {
      return load
    },
    startReplica() {
      const name = `node-${replicas.size + 1}`
      const child = processes.start(name, './node.ts', { name, url, leaseMs })
      replicas.set(child, { name, pid: child.pid, process: 'running', status: null })
      return child
    },
    startIndexer() {
      indexers += 1
      const name = `indexer-${indexers}`
      return processes.start(name, './indexer.ts', { name, url })
    },
    startLoad: () => processes.start('load', './load.ts', { url, rate, connections: loadConnections }),
    leader,
    lag() {
      const child = leader()
      return (child && replicas.get(child)?.status?.lag?.events) ?? null
    },
    async stopReplicas() {
      await Promise.all([...processes.children].map((child) => child.stop()))
    },
    [Symbol.asyncDispose]: () => processes[Symbol.asyncDispose](),
  }
}
