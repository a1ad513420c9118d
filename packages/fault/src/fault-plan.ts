import type { RandomSource } from '@x/testkit'

/** What is done to one replica: its process, its line to the database, or its sessions there. */
export const replicaFaults = [
  'kill',
  'stop',
  'stall',
  'shift-clock',
  'terminate',
  'cancel',
  'cut',
  'half-open',
  'hold-to-server',
  'hold-to-client',
  'delay',
  'throttle',
  'swallow-reply',
] as const

/** What is done to the server, and so to all. */
export const serverFaults = ['restart-fast', 'restart-immediate', 'read-only', 'no-slots'] as const

export type ReplicaFault = (typeof replicaFaults)[number]
export type ServerFault = (typeof serverFaults)[number]
export type FaultName = ReplicaFault | ServerFault

export interface PlannedFault {
  readonly name: FaultName
  /** Milliseconds from the start of the plan. */
  readonly atMs: number
  /** How long it lasts, where it has a length. */
  readonly forMs: number
  /** Which replica; server faults have no use for it. */
  readonly replica: number
}

export interface PlanOptions {
  readonly random: RandomSource
  readonly replicas: number
  readonly lengthMs: number
  readonly faults: readonly FaultName[]
  /** The time after which a silent replica is given up: faults are clearly shorter or clearly longer. */
  readonly ttlMs: number
  /** Mean distance between two faults. */
  readonly everyMs: number
}

export const isServerFault = (name: FaultName): name is ServerFault => serverFaults.some((fault) => fault === name)

/** Draws the faults of one run; the same seed gives the same plan. */
export const planFaults = (options: PlanOptions): readonly PlannedFault[] => {
  const { random, replicas, lengthMs, faults, ttlMs, everyMs } = options
  const plan: PlannedFault[] = []
  for (let atMs = random.int(100, everyMs); atMs < lengthMs; atMs += random.int(Math.ceil(everyMs / 3), everyMs * 2)) {
    const name = random.pick(faults)
    const short = random.int(Math.ceil(ttlMs * 0.05), Math.ceil(ttlMs * 0.4))
    const long = random.int(Math.ceil(ttlMs * 1.3), Math.ceil(ttlMs * 2))
    // The whole server away for longer than a ttl leaves nothing to compare: it is short.
    const forMs = isServerFault(name) || random.chance(0.5) ? short : long
    plan.push({ name, atMs, forMs, replica: random.int(0, replicas - 1) })
  }
  return plan
}
