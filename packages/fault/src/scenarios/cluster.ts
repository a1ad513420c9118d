import { migrate } from '@x/cluster-discovery/migrations'
import {
  type DatabaseTemplate,
  type Declaration,
  eventOrderViolations,
  eventually,
  foldEvents,
  type SeenEvent,
  type SeenNode,
  unjustifiedDowns,
} from '@x/testkit'
import { z } from 'zod'
import { actorMessages } from '../actors/actor.ts'
import { carryOut } from '../fault-means.ts'
import { planFaults, replicaFaults } from '../fault-plan.ts'
import { Replica } from '../replica.ts'
import type { RunOptions, Scenario, Verdict } from '../scenario.ts'
import { createWorld } from '../world.ts'
import { leftBehind } from './left-behind.ts'

const heartbeatMs = 500
const ttlMs = 2_500
/** A partitioned node is down within a ttl and two sweeps; the rest is reconnecting and the load of this machine. */
const convergenceMs = ttlMs * 2 + 10_000

const node = z.object({ id: z.string(), incarnation: z.string(), state: z.string() })
const about = { version: z.string(), at: z.number() }

const messages = z.discriminatedUnion('type', [
  ...actorMessages,
  z.object({
    type: z.literal('event'),
    ...about,
    event: z.enum(['snapshot', 'join', 'update', 'leave', 'down']),
    nodes: z.array(node).optional(),
    node: node.optional(),
  }),
  z.object({ type: z.literal('noted'), ...about, event: z.enum(['resync', 'self-down']) }),
  z.object({ type: z.literal('view'), ...about, connected: z.boolean(), nodes: z.array(node) }),
])
type Message = z.infer<typeof messages>

const template: DatabaseTemplate = { name: 'cluster', prepare: async (pool) => void (await migrate(pool)) }

const asEvent = (message: Extract<Message, { type: 'event' }>): SeenEvent => {
  const { event, version, nodes = [] } = message
  if (event === 'snapshot') return { type: event, version, nodes }
  if (message.node === undefined) throw new Error(`expected a node in an event of type ${event}`)
  return { type: event, version, node: message.node }
}

/** Members as a sorted line, for comparison and for messages. */
const line = (nodes: Iterable<SeenNode>): string =>
  [...nodes]
    .map(({ id }) => id)
    .sort()
    .join(' ')

/** Nodes that join, leave and die while everything is done to their processes and lines. */
export const clusterScenario: Scenario = {
  name: 'cluster-discovery',
  about: 'members that join, leave and die; nobody who can beat is let go',
  needs: () => null,
  async run({ random, lengthMs, tell }: RunOptions): Promise<Verdict> {
    await using resources = new AsyncDisposableStack()
    const world = resources.use(await createWorld({ random, template, tell }))
    const events = new Map<string, SeenEvent[]>()
    const views = new Map<string, { nodes: readonly SeenNode[]; at: number }>()
    const downs = new Map<string, Declaration>()
    const broken: string[] = []
    let failures = 0
    let selfDowns = 0
    const replicas: Replica<Message>[] = []
    for (let index = 0; index < 6; index += 1) {
      const replica = await Replica.start({
        name: `n${index}`,
        actor: new URL('../actors/cluster-actor.ts', import.meta.url),
        messages,
        databaseUrl: world.database.url,
        settings: (context) => ({ ...context, heartbeatMs, ttlMs }),
        onMessage(processName, message) {
          if (message.type === 'event') {
            const event = asEvent(message)
            events.set(processName, [...(events.get(processName) ?? []), event])
            const key = event.type === 'down' ? `${event.node.id}/${event.node.incarnation}` : null
            const before = key === null ? undefined : downs.get(key)
            if (event.type === 'down' && key !== null && (before === undefined || message.at < before.at)) {
              downs.set(key, { node: event.node.id, at: message.at })
            }
          }
          if (message.type === 'view') views.set(processName, message)
          if (message.type === 'failed') failures += 1
          if (message.type === 'noted' && message.event === 'self-down') selfDowns += 1
          if (message.type === 'broken') broken.push(`${processName}: ${message.what}`)
          if (message.type === 'closed' && message.resources.length > 0) {
            broken.push(`${processName}: still there after close(): ${message.resources.join(', ')}`)
          }
        },
      })
      replicas.push(resources.use(replica))
    }
    for (const replica of replicas) await replica.process.message(({ type }) => type === 'ready')

    const faults = [...replicaFaults, 'restart-fast', 'restart-immediate'] as const
    const plan = planFaults({
      random: random.fork('plan'),
      replicas: replicas.length,
      ...{ lengthMs, faults, ttlMs, everyMs: 500 },
    })
    const faultsMade = await carryOut(world, plan, replicas)

    const violations: string[] = []
    const truth = (): string =>
      replicas
        .map(({ processName }) => processName)
        .sort()
        .join(' ')
    await eventually(() => replicas.every(({ processName }) => line(views.get(processName)?.nodes ?? []) === truth()), {
      deadlineMs: convergenceMs,
    }).catch(() => {
      for (const { processName } of replicas) {
        const view = line(views.get(processName)?.nodes ?? [])
        if (view !== truth()) violations.push(`${processName} sees [${view}] in place of [${truth()}]`)
      }
    })
    // Events are told as they are read; the views agree, so what the events add up to is the same a moment later.
    for (const { processName } of replicas) {
      await eventually(() => line(foldEvents(events.get(processName) ?? []).values()) === truth(), {
        deadlineMs: 15_000,
      }).catch(() => {
        const folded = line(foldEvents(events.get(processName) ?? []).values())
        if (violations.length === 0)
          violations.push(`the events of ${processName} add up to [${folded}], not to [${truth()}]`)
      })
    }
    for (const [processName, seen] of events) {
      violations.push(...eventOrderViolations(seen).map((violation) => `${processName}: ${violation}`))
    }
    const disturbances = new Map(replicas.flatMap((replica) => [...replica.disturbances]))
    const bounds = { ttlMicros: ttlMs * 1_000, slackMicros: (ttlMs + 3_000) * 1_000 }
    violations.push(...broken, ...unjustifiedDowns([...downs.values()], disturbances, bounds))
    for (const replica of replicas) violations.push(...(await replica.finish(15_000)))
    violations.push(...(await leftBehind(world.admin, whatMembersLeave)))
    const counts = {
      events: [...events.values()].reduce((sum, list) => sum + list.length, 0),
      downs: downs.size,
      'self-downs': selfDowns,
      'failed operations': failures,
      faults: faultsMade,
    }
    return { violations, counts }
  },
}

const whatMembersLeave = `SELECT format('beat of %s', id) AS what FROM coordination.node_beats`
