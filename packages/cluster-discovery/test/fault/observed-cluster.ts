import { randomUUID } from 'node:crypto'
import {
  type Declaration,
  type Disturbance,
  eventOrderViolations,
  eventually,
  monotonicMicros,
  type SeenEvent,
  spawnNode,
  type TestProcess,
  unjustifiedDowns,
} from '@x/testkit'
import type { Pool } from 'pg'
import { expect } from 'vitest'
import {
  type ClusterDiscovery,
  type ClusterDiscoveryOptions,
  type ClusterEvent,
  createClusterDiscovery,
} from '../../src/index.ts'
import { fold } from '../fold.ts'
import { type NodeMessage, type NodeSettings, nodeMessage } from './node-protocol.ts'

/** Slow enough for a busy machine, fast enough for a test: a look every 375 ms. */
export const pace = { heartbeatMs: 500, ttlMs: 3_000 } as const
/** After so long silence is noticed, however busy the machine; how soon it is on a quiet one is for `pnpm bench cluster`. */
export const ttlBoundMs: number = pace.ttlMs + 2 * 375 + 10_000
/** How long after a fault has ended a death may still be its consequence. */
const aftermathMs = 2 * (pace.ttlMs + 2 * 375) + 4_000

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

interface Observer {
  readonly discovery: ClusterDiscovery
  readonly events: ClusterEvent[]
  readonly watching: Promise<void>
}

/** A cluster under test: nodes of this process whose watches are recorded, and nodes that are processes of their own. */
export class ObservedCluster implements AsyncDisposable {
  readonly name: string = `cluster ${randomUUID()}`
  readonly observers: Observer[] = []
  /** Who was kept from beating, and when. */
  readonly #disturbances = new Map<string, Mutable<Disturbance>[]>()
  readonly #downs: Declaration[] = []
  readonly #processes: TestProcess<NodeMessage>[] = []
  readonly #url: string
  readonly #pool: Pool

  constructor(url: string, pool: Pool) {
    this.#url = url
    this.#pool = pool
  }

  /** A node of this process, joined. */
  async join(id: string, more: Partial<ClusterDiscoveryOptions> = {}): Promise<ClusterDiscovery> {
    const discovery = createClusterDiscovery({
      pool: this.#pool,
      cluster: this.name,
      connectionString: this.#url,
      ...pace,
      node: { id, name: id },
      ...more,
    })
    const events: ClusterEvent[] = []
    const watching = (async () => {
      for await (const event of discovery.watch()) {
        events.push(event)
        if (event.type === 'down') this.#downs.push({ node: event.node.id, at: Number(monotonicMicros()) })
      }
    })()
    this.observers.push({ discovery, events, watching })
    await discovery.join()
    return discovery
  }

  /** A node that is a process, joined. */
  async spawn(id: string, more: Partial<NodeSettings> = {}): Promise<TestProcess<NodeMessage>> {
    const settings: NodeSettings = {
      url: this.#url,
      cluster: this.name,
      id,
      listen: true,
      clockShiftMs: 0,
      ...pace,
      ...more,
    }
    const child = await spawnNode(new URL('./node-process.ts', import.meta.url), {
      messages: nodeMessage,
      args: [JSON.stringify(settings)],
    })
    this.#processes.push(child)
    // Fifty that start at once share the cores for as long as they load their modules.
    await child.message((message) => message.kind === 'joined', 90_000)
    return child
  }

  /** Until each node of this process sees exactly these members. */
  async agree(ids: readonly string[], deadlineMs = 60_000): Promise<void> {
    const wanted = [...ids].sort().join()
    await eventually(() => this.observers.every(({ discovery }) => isOpen(discovery) && seenBy(discovery) === wanted), {
      deadlineMs,
      what: `all to see ${wanted}; they see ${this.observers.map(({ discovery }) => seenBy(discovery)).join(' | ')}`,
    })
  }

  /** Until everybody has been in touch with the database for so long that deaths are believed. */
  async settle(): Promise<void> {
    const since = performance.now()
    await eventually(() => performance.now() - since > pace.ttlMs + pace.heartbeatMs, {
      deadlineMs: 2 * pace.ttlMs + 2_000,
      everyMs: 50,
    })
  }

  /**
   * Says that a node is kept from beating from now on, until the result is called: `check` accepts its going down, and nobody
   * else's.
   */
  disturb(id: string): () => void {
    const disturbance: Mutable<Disturbance> = { from: Number(monotonicMicros()), until: null }
    this.#disturbances.set(id, [...(this.#disturbances.get(id) ?? []), disturbance])
    return () => {
      disturbance.until = Number(monotonicMicros())
    }
  }

  downs(): string[] {
    return [...new Set(this.observers.flatMap(({ events }) => downsOf(events)))].sort()
  }

  /** What must always hold: nobody down who could beat, each watch folds to its view, in version order, all views are one. */
  async check(): Promise<void> {
    const bounds = { ttlMicros: pace.ttlMs * 1_000, slackMicros: aftermathMs * 1_000 }
    expect(unjustifiedDowns(this.#downs, this.#disturbances, bounds)).toEqual([])
    const open = this.observers.filter(({ discovery }) => discovery.self.state === 'up')
    const [first] = open
    await eventually(() => open.every(({ discovery }) => discovery.version === first?.discovery.version), {
      what: 'one version',
    })
    for (const { discovery, events } of open) {
      await eventually(() => expect(fold([], events)).toEqual(discovery.nodes()) ?? true)
      expect(discovery.nodes()).toEqual(first?.discovery.nodes())
      expect(eventOrderViolations(events.flatMap(asSeen))).toEqual([])
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#processes) {
      child.resume()
      await child.kill()
    }
    await Promise.all(this.observers.map(({ discovery }) => discovery.close()))
    await Promise.all(this.observers.map(({ watching }) => watching))
  }
}

const isOpen = (discovery: ClusterDiscovery): boolean => discovery.self.state !== 'left'
const seenBy = (discovery: ClusterDiscovery): string =>
  discovery
    .nodes()
    .map((node) => node.id)
    .sort()
    .join()

export const downsOf = (events: readonly ClusterEvent[]): string[] =>
  events.flatMap((event) => (event.type === 'down' ? [`${event.node.id} ${event.cause}`] : []))

const asSeen = (event: ClusterEvent): SeenEvent[] => {
  const version = `${event.version}`
  const seen = ({ id, incarnation, state }: { id: string; incarnation: bigint; state: string }) => ({
    id,
    incarnation: `${incarnation}`,
    state,
  })
  if (event.type === 'snapshot') return [{ type: 'snapshot', version, nodes: event.nodes.map(seen) }]
  return 'node' in event ? [{ type: event.type, version, node: seen(event.node) }] : []
}
