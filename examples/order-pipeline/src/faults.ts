import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Child } from './processes.ts'

/** What a fault needs of the run around it. */
export interface Stage {
  readonly pool: Pool
  readonly leaseMs: number
  /** Aborts when the run is over. */
  readonly signal: AbortSignal
  /** The replica that leads now; waits for one that is alive and runs. */
  leader(): Promise<Child>
  startReplica(): Child
  log(text: string): void
}

type Kind = 'kill' | 'stop' | 'continue' | 'end-leader-backend' | 'end-job-session'

const record = (pool: Pool, kind: Kind, node: string) =>
  pool.query('INSERT INTO faults (kind, node) VALUES ($1, $2)', [kind, node])

/** The process is gone between two instructions: no handler runs, no lock is released. */
const killLeader = async (stage: Stage): Promise<void> => {
  const leader = await stage.leader()
  await record(stage.pool, 'kill', leader.name)
  stage.log(`SIGKILL to ${leader.name}, which leads`)
  await leader.kill()
  stage.log(`${stage.startReplica().name} is started in its place`)
}

/** The process stands still past its lease, then goes on in the belief that it leads: the zombie. */
const stopLeader = async (stage: Stage): Promise<void> => {
  const leader = await stage.leader()
  await record(stage.pool, 'stop', leader.name)
  const stoppedAt = performance.now()
  stage.log(`SIGSTOP to ${leader.name}, which leads`)
  leader.freeze()
  try {
    await delay(1.5 * stage.leaseMs, undefined, { signal: stage.signal })
    await stage.leader() // a successor: the stopped one does not count
  } finally {
    leader.thaw()
  }
  await record(stage.pool, 'continue', leader.name)
  stage.log(
    `${leader.name} goes on after ${((performance.now() - stoppedAt) / 1_000).toFixed(1)} s, long after its lease`,
  )
}

/** The server ends the connection of the leader in the middle of a batch: it has written effects and not committed them. */
const endLeaderBackend = async (stage: Stage): Promise<void> => {
  for (;;) {
    const leader = await stage.leader()
    const { rowCount } = await stage.pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
       WHERE relation = 'effects'::regclass AND mode = 'RowExclusiveLock' AND granted AND application_name = $1`,
      [`order-pipeline/${leader.name}`],
    )
    if (rowCount === 1) {
      stage.log(`pg_terminate_backend on the connection of ${leader.name}, which leads, in the middle of a batch`)
      await record(stage.pool, 'end-leader-backend', leader.name)
      return
    }
    await delay(5, undefined, { signal: stage.signal })
  }
}

/** The server ends the session that holds the job's lock while the job is running. */
const endJobSession = async (stage: Stage): Promise<void> => {
  for (;;) {
    const { rows } = await stage.pool.query<{ node: string }>(
      `SELECT node FROM job_runs
       WHERE ended_at IS NULL AND seen_at > clock_timestamp() - interval '100 ms' ORDER BY id DESC LIMIT 1`,
    )
    const node = rows[0]?.node
    if (node !== undefined) {
      await record(stage.pool, 'end-job-session', node)
      stage.log(`pg_terminate_backend on the session with which ${node} holds the lock of the job it is running`)
      await stage.pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1`,
        [`order-pipeline/${node}/job`],
      )
      return
    }
    await delay(20, undefined, { signal: stage.signal })
  }
}

/** What is broken, and when, as a share of the run. */
const plan: readonly [share: number, fault: (stage: Stage) => Promise<void>][] = [
  [0.15, killLeader],
  [0.4, stopLeader],
  [0.75, endLeaderBackend],
  [0.9, endJobSession],
]

/** Breaks one thing after the other, once in `periodMs`; with `repeat` for ever. */
export const breakThings = async (stage: Stage, periodMs: number, repeat: boolean): Promise<void> => {
  const start = performance.now()
  let round = 0
  do {
    for (const [share, fault] of plan) {
      const dueMs = start + (round + share) * periodMs
      await delay(Math.max(0, dueMs - performance.now()), undefined, { signal: stage.signal })
      await fault(stage)
    }
    round += 1
  } while (repeat)
}
