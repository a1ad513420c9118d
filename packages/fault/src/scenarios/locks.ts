import { fencingViolations } from '@x/lock-core/conformance'
import { migrate } from '@x/lock-table/migrations'
import {
  type DatabaseTemplate,
  eventually,
  findProgram,
  howToInstall,
  LockHistory,
  monotonicMicros,
  type Overlap,
  overlaps,
  pgbouncer,
  staleWrites,
} from '@x/testkit'
import { z } from 'zod'
import { actorMessages } from '../actors/actor.ts'
import { carryOut } from '../fault-means.ts'
import { planFaults, replicaFaults, serverFaults } from '../fault-plan.ts'
import { Replica } from '../replica.ts'
import type { RunOptions, Scenario, Verdict } from '../scenario.ts'
import { createWorld } from '../world.ts'
import { leftBehind } from './left-behind.ts'

const ttlMs = 1_500
/** After the faults every process gets a lock within this time: a ttl, a claim, a reconnect with backoff. */
const livenessMs = 20_000

export const lockMessages = z.discriminatedUnion('type', [
  ...actorMessages,
  z.object({
    type: z.literal('granted'),
    hold: z.number(),
    key: z.string(),
    mode: z.enum(['exclusive', 'shared']),
    token: z.string().nullable(),
    at: z.number(),
  }),
  z.object({ type: z.literal('held'), hold: z.number(), at: z.number() }),
  z.object({ type: z.literal('refused'), key: z.string() }),
])

export const lockTemplate: DatabaseTemplate = {
  name: 'locks',
  async prepare(pool) {
    await migrate(pool)
    await pool.query('CREATE TABLE writes (seq bigint GENERATED ALWAYS AS IDENTITY, key text, token bigint)')
  },
}

/** An overlap with what it must be compared with. */
interface Allowance {
  /** How long two may believe, microseconds: 0 for leases; the time to notice for sessions that the server ended. */
  readonly micros: number
}

const describeOverlap = ({ earlier, later, micros }: Overlap): string =>
  `${later.key}: ${later.holder} (token ${later.token}) was granted while ${earlier.holder} (token ${earlier.token}) ` +
  `believed to hold it, for ${Math.round(micros / 1_000)} ms`

const exclusion = (history: LockHistory, { micros }: Allowance): { violations: string[]; excused: number } => {
  const found = overlaps(history.holds)
  const broken = found.filter((overlap) => overlap.micros > micros)
  return { violations: broken.map(describeOverlap), excused: found.length - broken.length }
}

export interface LockScenarioOptions {
  readonly name: string
  readonly about: string
  /** `unshared` is a locker that breaks its promise, to show that this is found. */
  readonly adapter: 'table' | 'table-poll' | 'advisory' | 'advisory-server' | 'unshared'
  /** Put PgBouncer between the replicas and the server. */
  readonly pooled?: boolean
}

/** Replicas that take the same few locks while everything is done to them. */
export const lockScenario = ({ name, about, adapter, pooled = false }: LockScenarioOptions): Scenario => ({
  name,
  about,
  needs: () => (pooled && findProgram('pgbouncer') === null ? howToInstall('pgbouncer') : null),
  run: async (options: RunOptions): Promise<Verdict> => {
    const { random, lengthMs, tell } = options
    await using resources = new AsyncDisposableStack()
    const world = resources.use(await createWorld({ random, template: lockTemplate, tell }))
    const pooler = pooled
      ? resources.use(
          await pgbouncer({
            url: world.server.url,
            mode: 'transaction',
            poolSize: 10,
            settings: { server_login_retry: 1 },
          }),
        )
      : null
    const history = new LockHistory()
    const broken: string[] = []
    let refused = 0
    let failures = 0
    const lastGrant = new Map<string, number>()
    const replicas: Replica<z.infer<typeof lockMessages>>[] = []
    for (let index = 0; index < 4; index += 1) {
      replicas.push(
        resources.use(
          await Replica.start({
            name: `r${index}`,
            actor: new URL('../actors/lock-actor.ts', import.meta.url),
            messages: lockMessages,
            databaseUrl: pooler?.url(world.database.url) ?? world.database.url,
            settings: ({ url, processName }) => ({
              ...{ adapter, url, processName, ttlMs },
              keys: ['a', 'b', 'c', 'd'],
              workers: 3,
              seed: random.seed,
            }),
            onMessage(processName, message) {
              if (message.type === 'granted' || message.type === 'held') history.record(processName, message)
              if (message.type === 'granted') lastGrant.set(processName, message.at)
              if (message.type === 'refused') refused += 1
              if (message.type === 'failed') failures += 1
              if (message.type === 'broken') broken.push(`${processName}: ${message.what}`)
              if (message.type === 'closed' && message.resources.length > 0) {
                broken.push(`${processName}: still there after close(): ${message.resources.join(', ')}`)
              }
            },
          }),
        ),
      )
    }
    for (const replica of replicas) await replica.process.message(({ type }) => type === 'ready', 20_000)

    const faults = [...replicaFaults, ...serverFaults]
    const plan = planFaults({
      random: random.fork('plan'),
      replicas: replicas.length,
      lengthMs,
      faults,
      ttlMs,
      everyMs: 350,
    })
    const made = await carryOut(world, plan, replicas)

    const healedAt = monotonicMicros()
    const violations: string[] = []
    for (const replica of replicas) {
      await eventually(() => (lastGrant.get(replica.processName) ?? 0) > healedAt, { deadlineMs: livenessMs }).catch(
        () => {
          violations.push(`${replica.processName} got no lock within ${livenessMs} ms after the last fault`)
        },
      )
    }
    for (const replica of replicas) violations.push(...(await replica.finish(15_000)))
    // What the pooler keeps open to the server is not the replicas'.
    await pooler?.stop()

    const { rows } = await world.admin.query<{ key: string; token: string }>(
      'SELECT key, token FROM writes ORDER BY seq',
    )
    const isLease = adapter === 'table' || adapter === 'table-poll'
    const excluded = exclusion(history, { micros: isLease ? 0 : (ttlMs + 1_000) * 1_000 })
    violations.push(
      ...broken,
      ...excluded.violations,
      ...fencingViolations(history.holds),
      ...staleWrites(rows.map(({ key, token }) => ({ key, token: BigInt(token) }))),
      ...(await leftBehind(world.admin, whatLocksLeave)),
    )
    const counts = {
      holds: history.holds.length,
      writes: rows.length,
      'refused writes': refused,
      'failed operations': failures,
      'excused overlaps': excluded.excused,
      faults: [...made.values()].reduce((sum, count) => sum + count, 0),
    }
    return { violations, counts }
  },
})

const whatLocksLeave = `
  SELECT format('ticket of %s for %s', session_id, key) AS what
    FROM coordination.lock_waiters JOIN coordination.lock_sessions s USING (session_id)
   WHERE s.expires_at > clock_timestamp()
  UNION ALL
  SELECT format('lock %s held by %s', key, acquirer_name) FROM coordination.active_locks`
