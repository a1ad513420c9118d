import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'pg'
import { type AuditReport, audit } from './audit.ts'
import { renderAudit } from './audit-table.ts'
import { createRunDatabase } from './database.ts'
import { deploy } from './deploy.ts'
import { drain } from './drain.ts'
import { breakThings, type Stage } from './faults.ts'
import { createFleet, type Fleet } from './fleet.ts'
import { type IndexStage, tellIndexStory } from './index-story.ts'
import { Interrupted, type Interruption } from './interruption.ts'
import type { Options } from './options.ts'
import { renderTakeovers } from './picture.ts'
import type { Child } from './processes.ts'
import { createScreen } from './screen.ts'
import { showProgress } from './show-progress.ts'
import { until } from './until.ts'

/**
 * Short enough that two takeovers fit into a short run; a service would keep the defaults. Not below two seconds: on a
 * machine with too much to do, a leader with less loses its lease before its first batch is through.
 */
const leaseFor = (durationMs: number): number => Math.round(Math.min(3_000, Math.max(2_000, durationMs / 10)))

/** The replica that says it leads, if it is also the one that wrote last: what a replica said may be old by now. */
const provenLeader = async (fleet: Fleet, pool: Pool): Promise<Child | null> => {
  const { rows } = await pool.query<{ node: string }>('SELECT node FROM terms ORDER BY epoch DESC LIMIT 1')
  const leader = fleet.leader()
  return leader?.name === rows[0]?.node ? leader : null
}

/** Breaks things until the time is up, or until the user has seen enough; the story of the index is told to its end. */
const endure = async (stage: Stage & IndexStage, { durationMs, keep }: Options): Promise<void> => {
  const forEver = 2 ** 31 - 1
  const time = delay(keep ? forEver : durationMs, undefined, { signal: stage.signal })
  const unlessOver = (error: unknown): void => {
    if (!stage.signal.aborted) throw error
  }
  await Promise.all([
    Promise.all([breakThings(stage, durationMs, keep), time]).catch(unlessOver),
    tellIndexStory(stage, durationMs),
  ])
}

/** Runs the whole demo; what it started is gone when the promise settles. */
export const runPipeline = async (options: Options, { finish, abandon, fail }: Interruption): Promise<AuditReport> => {
  console.log('Starting PostgreSQL …')
  await using database = await createRunDatabase(options.url)
  abandon.throwIfAborted()
  console.log(`PostgreSQL: ${database.origin}, database ${database.name}. Creating the tables …`)
  await deploy(database.url)

  await using cleanUp = new AsyncDisposableStack()
  const pool = new Pool({ connectionString: database.url, max: 3, application_name: 'order-pipeline/main' })
  pool.on('error', () => {}) // an idle connection was lost; the next query opens another
  cleanUp.defer(() => pool.end())
  using screen = createScreen(process.stdout)
  const startedAt = performance.now()
  const elapsedMs = (): number => performance.now() - startedAt
  const log = (text: string): void => screen.log(`${(elapsedMs() / 1_000).toFixed(1).padStart(7)} s  ${text}`)

  const leaseMs = leaseFor(options.durationMs)
  await using fleet = createFleet({ database, leaseMs, rate: options.rate, log, fail })
  await using shown = showProgress({ pool, fleet, screen, elapsedMs, log, fail })
  for (let count = 0; count < options.nodes; count += 1) fleet.startReplica()
  await until('a replica to lead', abandon, () => fleet.leader())
  if (finish.aborted) throw new Interrupted('Ctrl-C') // before there was anything to audit

  const load = fleet.startLoad()
  const signal = AbortSignal.any([abandon, finish])
  const leader = (): Promise<Child> =>
    until('a replica to lead', signal, async () => {
      const proven = await provenLeader(fleet, pool)
      return proven?.name === shown.latestLeader() ? proven : null // announced before it is broken
    })
  const { startReplica, startIndexer } = fleet
  const stage = { pool, leaseMs, signal, leader, startReplica, startIndexer, log, abandon, hurry: signal }
  await endure(stage, options)
  abandon.throwIfAborted()

  log('The load ends; what is left is handled')
  await load.stop()
  if (!(await drain(pool, () => fleet.lag() === 0, abandon))) log('The feed stands still although something is left')
  log(renderTakeovers(shown.takeovers()))
  await fleet.stopReplicas()
  abandon.throwIfAborted()

  const client = await pool.connect()
  try {
    const report = await audit(client)
    for (const line of renderAudit(report)) screen.log(line)
    return report
  } finally {
    client.release()
  }
}
