import { migrate as migrateInput } from '@x/leader-input/migrations'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import { type DatabaseTemplate, eventually, type FeedEntry, feedViolations } from '@x/testkit'
import type { Pool } from 'pg'
import { z } from 'zod'
import { actorMessages } from '../actors/actor.ts'
import { carryOut } from '../fault-means.ts'
import { planFaults, replicaFaults, serverFaults } from '../fault-plan.ts'
import { Replica } from '../replica.ts'
import type { RunOptions, Scenario, Verdict } from '../scenario.ts'
import { createWorld } from '../world.ts'
import { leftBehind } from './left-behind.ts'

const ttlMs = 2_000
/** A takeover, a reconnect, and what was piled up meanwhile. */
const livenessMs = 30_000

const messages = z.discriminatedUnion('type', [...actorMessages, z.object({ type: z.literal('worked') })])
type Message = z.infer<typeof messages>

const template: DatabaseTemplate = {
  name: 'feed',
  async prepare(pool) {
    await migrateLocks(pool)
    await migrateInput(pool)
    for (const table of ['items', 'parts']) {
      await pool.query(`CREATE TABLE ${table} (id int PRIMARY KEY, revision int NOT NULL, note text NOT NULL)`)
    }
    await pool.query(`
      CREATE TABLE revisions (source text, id int, revision int NOT NULL, present boolean NOT NULL, PRIMARY KEY (source, id));
      INSERT INTO revisions SELECT source, id, 0, false FROM unnest(ARRAY['items', 'parts']) AS source, generate_series(1, 15) AS id;
      CREATE TABLE changes_made (source text, id int, revision int);
      CREATE TABLE effects (at bigint GENERATED ALWAYS AS IDENTITY, source text, id text, revision int, epoch bigint, handler text)`)
  },
}

const entriesOf = async (admin: Pool, table: 'changes_made' | 'effects'): Promise<readonly FeedEntry[]> => {
  const order = table === 'effects' ? 'at' : 'source, id, revision'
  const { rows } = await admin.query<{ source: string; id: string; revision: number }>(
    `SELECT source, id::text, revision FROM ${table} ORDER BY ${order}`,
  )
  return rows.map(({ source, id, revision }) => ({ table: source, id, revision }))
}

/** A leader whose time was over must not have had an effect after its successor. */
const epochViolations = async (admin: Pool): Promise<readonly string[]> => {
  const { rows } = await admin.query<{ handler: string; epoch: string; before: string }>(
    `SELECT * FROM (SELECT handler, epoch, max(epoch) OVER (ORDER BY at) AS before FROM effects) AS e WHERE epoch < before`,
  )
  return rows.map(({ handler, epoch, before }) => `${handler} handled a change in epoch ${epoch} after epoch ${before}`)
}

/** Writers that change rows and replicas that hand the changes on, while everything is done to both. */
export const feedScenario: Scenario = {
  name: 'leader-input',
  about: 'each committed change handled once, in order, by one leader at a time',
  needs: () => null,
  async run({ random, lengthMs, tell }: RunOptions): Promise<Verdict> {
    await using resources = new AsyncDisposableStack()
    const world = resources.use(await createWorld({ random, template, tell }))
    const broken: string[] = []
    let failures = 0
    const replica = async (name: string, actor: string): Promise<Replica<Message>> =>
      resources.use(
        await Replica.start({
          name,
          actor: new URL(`../actors/${actor}-actor.ts`, import.meta.url),
          messages,
          databaseUrl: world.database.url,
          settings: (context) => ({ ...context, seed: random.seed, ttlMs }),
          onMessage(processName, message) {
            if (message.type === 'failed') failures += 1
            if (message.type === 'broken') broken.push(`${processName}: ${message.what}`)
            if (message.type === 'closed' && message.resources.length > 0) {
              broken.push(`${processName}: still there after close(): ${message.resources.join(', ')}`)
            }
          },
        }),
      )
    const inputs = await Promise.all(['i0', 'i1', 'i2'].map((name) => replica(name, 'input')))
    for (const input of inputs) await input.process.message(({ type }) => type === 'ready')
    const writers = await Promise.all(['w0', 'w1', 'w2'].map((name) => replica(name, 'writer')))
    const replicas = [...inputs, ...writers]

    const faults = [...replicaFaults, ...serverFaults]
    const plan = planFaults({
      random: random.fork('plan'),
      replicas: replicas.length,
      ...{ lengthMs, faults, ttlMs, everyMs: 400 },
    })
    const faultsMade = await carryOut(world, plan, replicas)

    const violations: string[] = []
    for (const writer of writers) violations.push(...(await writer.finish(15_000)))
    const changes = await entriesOf(world.admin, 'changes_made')
    await eventually(async () => (await entriesOf(world.admin, 'effects')).length >= changes.length, {
      deadlineMs: livenessMs,
      everyMs: 100,
    }).catch(() => {})
    const effects = await entriesOf(world.admin, 'effects')
    violations.push(
      ...broken,
      ...feedViolations(changes, effects).slice(0, 20),
      ...(await epochViolations(world.admin)),
    )
    for (const input of inputs) violations.push(...(await input.finish(15_000)))
    violations.push(...(await leftBehind(world.admin, `SELECT key AS what FROM coordination.active_locks`)))
    const { rows } = await world.admin.query<{ epochs: number }>(
      'SELECT count(DISTINCT epoch)::int AS epochs FROM effects',
    )
    const counts = {
      changes: changes.length,
      effects: effects.length,
      epochs: rows[0]?.epochs ?? 0,
      'failed operations': failures,
      faults: faultsMade,
    }
    return { violations, counts }
  },
}
