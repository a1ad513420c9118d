import { setTimeout as delay } from 'node:timers/promises'
import { eventually, type RandomSource } from '@x/testkit'
import { Client, type Pool } from 'pg'
import { isServerFault, type PlannedFault, type ReplicaFault, type ServerFault } from './fault-plan.ts'
import type { Replica } from './replica.ts'
import type { World } from './world.ts'

type AnyReplica = Pick<
  Replica<{ readonly type: string }>,
  'line' | 'kill' | 'startProcess' | 'disturb' | 'name' | 'processName' | 'isRunning'
> & { readonly process: { pause(): void; resume(): void; send(command: object): void; readonly pid: number } }

/** Backends that came through this replica's line: the proxy's sockets are the server's clients. */
const backendsOf = async (admin: Pool, replica: AnyReplica): Promise<readonly number[]> => {
  const { rows } = await admin.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND client_port = ANY ($1) ORDER BY backend_start, pid`,
    [replica.line.serverPorts],
  )
  return rows.map(({ pid }) => pid)
}

const signalOne = async (
  { admin }: World,
  random: RandomSource,
  replica: AnyReplica,
  func: 'pg_terminate_backend' | 'pg_cancel_backend',
): Promise<void> => {
  const pids = await backendsOf(admin, replica)
  if (pids.length > 0) await admin.query(`SELECT ${func}($1)`, [random.pick(pids)])
}

/** Makes one fault in a replica and resolves when it is over. */
const harmReplica = async (
  world: World,
  name: ReplicaFault,
  replica: AnyReplica,
  { forMs }: PlannedFault,
): Promise<void> => {
  const { line } = replica
  const random = world.random.fork(`${name}/${replica.processName}`)
  const during = async (begin: () => void, end: () => void): Promise<void> => {
    const over = replica.disturb()
    begin()
    await delay(forMs)
    end()
    over()
  }
  if (name === 'kill') {
    await replica.kill()
    await delay(Math.min(forMs, 500))
    await replica.startProcess()
  } else if (name === 'stop') {
    const { process } = replica
    await during(
      () => process.pause(),
      () => process.resume(),
    )
  } else if (name === 'stall') {
    await during(
      () => replica.process.send({ do: 'stall', ms: forMs }),
      () => {},
    )
  } else if (name === 'shift-clock') {
    replica.process.send({ do: 'shift-clock', ms: random.int(-3_600_000, 3_600_000) })
  } else if (name === 'terminate') await signalOne(world, random, replica, 'pg_terminate_backend')
  else if (name === 'cancel') await signalOne(world, random, replica, 'pg_cancel_backend')
  else if (name === 'cut') line.cut()
  else if (name === 'half-open') {
    const over = replica.disturb()
    line.halfOpen()
    // The replica has to find out by itself; until its detection time it is excused.
    await delay(forMs)
    over()
  } else if (name === 'hold-to-server' || name === 'hold-to-client') {
    const direction = name === 'hold-to-server' ? 'to-server' : 'to-client'
    await during(
      () => line.blackHole(direction),
      () => line.heal(),
    )
  } else if (name === 'delay') {
    await during(
      () => line.delay(random.int(5, 80)),
      () => line.heal(),
    )
  } else if (name === 'throttle') {
    await during(
      () => line.throttle(random.int(5_000, 50_000)),
      () => line.heal(),
    )
  } else if (name === 'swallow-reply') {
    void line.swallowNextReply({ after: random.pick(['cut', 'hang']) })
  }
}

/** Sets a server setting for a while; every session sees it after the reload. */
const withSetting = async (admin: Pool, name: string, value: string, forMs: number): Promise<void> => {
  await admin.query(`ALTER SYSTEM SET ${name} = '${value}'`)
  await admin.query('SELECT pg_reload_conf()')
  await delay(forMs)
  // Itself a session that must not write: ALTER SYSTEM writes no table, and is allowed.
  await admin.query(`ALTER SYSTEM RESET ${name}`)
  await admin.query('SELECT pg_reload_conf()')
}

/** Takes every connection slot that is left, as a service gone wrong does. */
const fillSlots = async ({ database }: World, forMs: number): Promise<void> => {
  const taken: Client[] = []
  const take = async (): Promise<void> => {
    const client = new Client({ connectionString: database.url, application_name: 'slot' })
    client.on('error', () => {})
    await client.connect()
    taken.push(client)
  }
  for (let refused = false; !refused; ) {
    const attempts = await Promise.allSettled(Array.from({ length: 10 }, take))
    refused = attempts.some(({ status }) => status === 'rejected')
  }
  await delay(forMs)
  await Promise.allSettled(taken.map((client) => client.end()))
}

const harmServer = async (world: World, name: ServerFault, { forMs }: PlannedFault): Promise<void> => {
  if (name === 'restart-fast') await world.server.restart('fast')
  else if (name === 'restart-immediate') await world.server.restart('immediate')
  else if (name === 'read-only') await withSetting(world.admin, 'default_transaction_read_only', 'on', forMs)
  else await fillSlots(world, forMs)
}

/** A fault that another one is in the way of (a kill while stopped, a query while the server restarts) is not made. */
const attempt = async (fault: () => Promise<void>, tell: (line: string) => void, what: string): Promise<void> => {
  try {
    await fault()
  } catch (error) {
    tell(`${what} could not be made: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Carries out a plan and then puts everything right again. Resolves to how many faults were made. */
export const carryOut = async (
  world: World,
  plan: readonly PlannedFault[],
  replicas: readonly AnyReplica[],
): Promise<number> => {
  const startedAt = performance.now()
  const busy = new Map<AnyReplica | 'server', Promise<void>>()
  let made = 0
  for (const fault of plan) {
    await delay(Math.max(0, fault.atMs - (performance.now() - startedAt)))
    const { name } = fault
    const replica = replicas[fault.replica]
    if (replica === undefined) continue
    const target = isServerFault(name) ? 'server' : replica
    // One fault after the other on each target; faults of different targets overlap.
    if (busy.has(target)) continue
    world.tell(
      `${Math.round(performance.now() - startedAt)} ms: ${name} ${target === 'server' ? '' : replica.processName} ${fault.forMs} ms`,
    )
    made += 1
    const all = isServerFault(name) ? replicas.map((each) => each.disturb()) : []
    const harm = isServerFault(name)
      ? () => harmServer(world, name, fault)
      : () => harmReplica(world, name, replica, fault)
    busy.set(
      target,
      attempt(harm, world.tell, name).then(() => {
        for (const over of all) over()
        busy.delete(target)
      }),
    )
  }
  await Promise.all(busy.values())
  await putRight(world, replicas)
  return made
}

const putRight = async (world: World, replicas: readonly AnyReplica[]): Promise<void> => {
  for (const replica of replicas) {
    replica.line.heal()
    if (!replica.isRunning) await replica.startProcess()
    replica.process.resume()
    replica.process.send({ do: 'shift-clock', ms: 0 })
  }
  await eventually(() => world.admin.query('ALTER SYSTEM RESET ALL').then(() => true), { deadlineMs: 60_000 })
  await world.admin.query('SELECT pg_reload_conf()')
}
