import pc from 'picocolors'
import type { LoadStatus, NodeStatus } from './messages.ts'

/** One replica as the demo sees it from outside, and as it sees itself. */
export interface Replica {
  readonly name: string
  readonly pid: number
  process: 'running' | 'stopped' | 'killed' | 'ended'
  status: NodeStatus | null
}

/** Everything the terminal shows. */
export interface Picture {
  readonly elapsedMs: number
  readonly replicas: readonly Replica[]
  readonly load: LoadStatus | null
  /** Changes handled so far. */
  readonly handled: number
  readonly handledPerSecond: number
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`
const number = (value: number): string => Math.round(value).toLocaleString('en-US')

/** The view of the replica that knows most: the newest version seen by one that is running. */
const membersOf = (replicas: readonly Replica[]): ReadonlyMap<string, string> => {
  const statuses = replicas.flatMap(({ process, status }) => (process === 'running' && status ? [status] : []))
  const best = statuses.reduce<(typeof statuses)[number] | null>(
    (newest, status) => (newest === null || status.viewVersion > newest.viewVersion ? status : newest),
    null,
  )
  return new Map(best?.members.map(({ name, state }) => [name, state]))
}

const lagOf = ({ replicas }: Picture): string => {
  const lag = replicas.find(({ process, status }) => process === 'running' && status?.lag)?.status?.lag
  return lag ? `${number(lag.events)} changes, ${seconds(lag.oldestMs)}` : 'unknown'
}

const roleOf = ({ process, status }: Replica): string => {
  if (process === 'killed' || process === 'ended' || status === null) return ''
  if (status.input !== 'leading') return status.input
  return `${process === 'stopped' ? 'led' : 'LEADS'}, epoch ${status.epoch}`
}

const columns = (cells: readonly [string, string, string, string, string, string]): string => {
  const widths = [9, 12, 9, 9, 10]
  return `  ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join('')}`.trimEnd()
}

const replicaLines = (replicas: readonly Replica[]): string[] => {
  const members = membersOf(replicas)
  return replicas.map((replica) => {
    const { name, pid, process, status } = replica
    const runs = `${status?.jobRuns ?? 0}`
    const line = columns([name, `pid ${pid}`, process, members.get(name) ?? '-', runs, roleOf(replica)])
    if (process === 'killed' || process === 'ended') return pc.dim(line)
    if (process === 'stopped') return pc.yellow(line)
    return status?.input === 'leading' ? pc.green(line) : line
  })
}

const feedSummary = (picture: Picture): string => {
  const { handled, handledPerSecond } = picture
  return `${number(handledPerSecond)} events/s  lag ${lagOf(picture)}  ${number(handled)} handled`
}

const loadSummary = ({ load }: Picture): string =>
  load === null
    ? 'no load yet'
    : `${number(load.committed)} transactions committed, ${number(load.rolledBack)} rolled back`

/** The picture as lines of text, without regard to where they are shown. */
export const render = (picture: Picture): string[] => [
  '',
  `  ${pc.bold(seconds(picture.elapsedMs).padStart(7))}  ${pc.bold(feedSummary(picture))}`,
  `           ${loadSummary(picture)}`,
  '',
  pc.dim(columns(['', '', 'process', 'member', 'job runs', 'feed'])),
  ...replicaLines(picture.replicas),
]

/** The picture in one line, for a log. */
export const renderLine = (picture: Picture): string => {
  const leader = picture.replicas.find(({ process, status }) => process === 'running' && status?.input === 'leading')
  const members = [...membersOf(picture.replicas)].map(([name, state]) =>
    state === 'up' ? name : `${name} (${state})`,
  )
  const leads = leader ? `${leader.name} leads in epoch ${leader.status?.epoch}` : 'nobody leads'
  return `${seconds(picture.elapsedMs).padStart(7)}  ${feedSummary(picture)}  ${leads}  members: ${members.join(' ')}  (${loadSummary(picture)})`
}

/** How the takeovers went: each time while they are few, else their median and the longest. */
export const renderTakeovers = (takeoverMs: readonly number[]): string => {
  const precise = (ms: number | undefined): string => `${((ms ?? 0) / 1_000).toFixed(2)} s`
  if (takeoverMs.length <= 3) return `Takeovers after a fault: ${takeoverMs.map(precise).join(', ') || 'none'}`
  const sorted = takeoverMs.toSorted((a, b) => a - b)
  const median = precise(sorted[Math.floor(sorted.length / 2)])
  return `Takeovers after a fault: ${sorted.length}, median ${median}, longest ${precise(sorted.at(-1))}`
}
