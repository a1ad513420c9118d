import {
  ClosedError,
  type CoordinationError,
  type DirectConnection,
  type Logger,
  type ObservabilityOptions,
  type Unsubscribe,
} from '@x/lock-core'
import { type Clock, observabilityOptions, parseOptions, systemClock } from '@x/lock-core/adapter'
import { connectionSource, createListener, type Listener, type ListenerSession, problemOf } from '@x/pg-session'
import { z } from 'zod'
import { Cadence } from './cadence.ts'
import { Listeners } from './events.ts'
import { channelOfCookie, cutChannel, isNodeName } from './libcluster-channel.ts'
import { Mesh } from './mesh.ts'

/** Options of {@link createLibclusterDiscovery}. */
export interface LibclusterDiscoveryOptions extends ObservabilityOptions {
  /** Exactly one of `connectionString` and `connection`; it must lead to the server, past a transaction pooler. */
  connectionString?: string | undefined
  connection?: DirectConnection | undefined
  /** This node, as `name@host`. */
  nodeName: string
  /** Exactly one of `channelName` and `cookie`: the `channel_name` of the other nodes. */
  channelName?: string | undefined
  /** The Erlang cookie of nodes that have no `channel_name`; the channel is derived from it as they do. */
  cookie?: string | undefined
  /** Milliseconds, at least 50. A node that is silent for three of these is forgotten. @default 5_000 */
  heartbeatIntervalMs?: number | undefined
  /** Called for each node heard; when it rejects, again at the next heartbeat of that node. */
  connect?: ((nodeName: string, signal: AbortSignal) => Promise<void>) | undefined
  /** Called for each connected node that is forgotten. */
  disconnect?: ((nodeName: string) => void) | undefined
}

/** Discovery among nodes that broadcast their names, in the wire format of libcluster_postgres. */
export interface LibclusterDiscovery extends AsyncDisposable {
  /** The channel as the server knows it. */
  readonly channelName: string
  readonly isConnected: boolean
  /** Why this node does not listen, such as a server that is away; null when it does. It is tried again until closed. */
  readonly lastError: CoordinationError | null
  /**
   * Resolves when this node listens, however long a server that is away takes to come.
   * @throws {ConnectionError} for what no waiting heals, such as a wrong password; it is tried again all the same until closed
   * @throws {PoolerDetectedError}, {UnsupportedError}, {ClosedError}
   */
  start(): Promise<void>
  /** Names of the other nodes heard within three intervals, in alphabetical order. */
  nodes(): readonly string[]
  on(type: 'join' | 'down', listener: (nodeName: string) => void): Unsubscribe
  /** Idempotent. The format knows no farewell: the others forget this node, if they forget at all. */
  close(): Promise<void>
}

/** A node that keeps silent for so many intervals is forgotten. */
const patienceIntervals = 3
/** Names come from whoever may NOTIFY; memory stays bounded. */
const mostNodes = 10_000
const closePatienceMs = 5_000

const callback = z.custom<(...args: never[]) => unknown>((value) => typeof value === 'function', 'expected a function')

const schema = z
  .strictObject({
    connectionString: z.string({ error: 'expected a string' }).min(1, 'expected a connection string').optional(),
    connection: z
      .custom<DirectConnection>((value) => value !== null && value !== false, 'expected connection settings')
      .optional(),
    nodeName: z
      .string({ error: 'expected a string' })
      .refine(isNodeName, 'expected name@host, without spaces, at most 255 characters'),
    channelName: z
      .string({ error: 'expected a string' })
      .min(1, 'expected at least one character')
      .refine((value) => value.isWellFormed() && !value.includes('\0'), 'expected well-formed Unicode without NUL')
      .optional(),
    cookie: z.string({ error: 'expected a string' }).min(1, 'expected at least one character').optional(),
    heartbeatIntervalMs: z
      .number({ error: 'expected milliseconds as a number' })
      .int('expected whole milliseconds')
      .min(50, 'expected at least 50 ms')
      .max(86_400_000, 'expected at most a day')
      .default(5_000),
    connect: callback.optional(),
    disconnect: callback.optional(),
    ...observabilityOptions,
  })
  .refine(({ channelName, cookie }) => (channelName === undefined) !== (cookie === undefined), {
    path: ['channelName'],
    error: 'expected exactly one of channelName and cookie',
  })

/**
 * Speaks with nodes that use libcluster_postgres: sends the bare node name on the channel every interval, hears theirs,
 * and, which the original does not, forgets the silent, reconnects, and survives foreign payloads. Each heartbeat is
 * delivered to every node; for clusters of your own `createClusterDiscovery` costs far less.
 *
 * @throws {ConfigurationError}
 * @example
 * const discovery = createLibclusterDiscovery({ connectionString, nodeName: 'web@10.0.0.7', channelName: 'cluster' })
 * discovery.on('join', (name) => console.log(`${name} is there`))
 * await discovery.start()
 */
export function createLibclusterDiscovery(options: LibclusterDiscoveryOptions): LibclusterDiscovery {
  return new Discovery(options, systemClock, Math.random)
}

const notify = { name: 'libcluster_notify', text: 'SELECT pg_notify($1, $2)' } as const

type Heard = { readonly type: 'join' | 'down'; readonly nodeName: string }

class Discovery implements LibclusterDiscovery {
  readonly channelName: string
  readonly #nodeName: string
  readonly #intervalMs: number
  readonly #clock: Clock
  readonly #logger: Logger | undefined
  readonly #listener: Listener
  readonly #heart: Cadence
  readonly #mesh: Mesh<string>
  readonly #listeners: Listeners<Heard>
  readonly #heardAt = new Map<string, number>()
  #session: ListenerSession | null = null
  #starting: Promise<void> | null = null
  #refuse: (error: CoordinationError) => void = () => {}
  #closing: Promise<void> | null = null

  constructor(options: LibclusterDiscoveryOptions, clock: Clock, random: () => number) {
    const where = 'createLibclusterDiscovery'
    const { nodeName, channelName, cookie, heartbeatIntervalMs } = parseOptions(schema, options, where)
    const { connectionString, connection, logger, connect, disconnect } = options
    this.channelName = channelName === undefined ? channelOfCookie(cookie ?? '') : cutChannel(channelName)
    this.#nodeName = nodeName
    this.#intervalMs = heartbeatIntervalMs
    this.#clock = clock
    this.#logger = logger
    this.#listeners = new Listeners(['join', 'down'], (err, type) =>
      logger?.error({ err, type }, 'a listener of the cluster threw'),
    )
    this.#mesh = new Mesh<string>({
      idOf: (name) => name,
      incarnationOf: () => 0n,
      connect,
      disconnect,
      clock,
      random,
      logger,
      // The next heartbeat of the node comes first.
      retryMs: { first: patienceIntervals * heartbeatIntervalMs, last: patienceIntervals * heartbeatIntervalMs },
    })
    this.#heart = new Cadence(heartbeatIntervalMs, { clock, random, jitter: 0, run: () => this.#beat() })
    this.#listener = createListener({
      source: connectionSource({ connectionString, connection }, where),
      applicationName: 'cluster-discovery',
      logger,
      onNotification: (_, payload) => this.#heard(payload),
      onConnected: async (session) => {
        this.#session = session
      },
      onResync: () => this.#reconnected(),
      onStateChange: (state) => {
        if (state.status !== 'listening') this.#session = null
        if (state.status === 'connecting' && state.lastError?.retryable === false) this.#refuse(state.lastError)
      },
    })
  }

  get isConnected(): boolean {
    return this.#listener.state.status === 'listening'
  }

  get lastError(): CoordinationError | null {
    return problemOf(this.#listener.state)
  }

  async start(): Promise<void> {
    if (this.#closing !== null) throw new ClosedError('libcluster discovery')
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null
    })
    await this.#starting
  }

  nodes(): readonly string[] {
    return [...this.#heardAt.keys()].sort()
  }

  on(type: 'join' | 'down', listener: (nodeName: string) => void): Unsubscribe {
    return this.#listeners.add(type, ({ nodeName }) => listener(nodeName))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #start(): Promise<void> {
    const refused = Promise.withResolvers<never>()
    this.#refuse = refused.reject
    await Promise.race([this.#listener.listen(this.channelName), refused.promise])
  }

  async #close(): Promise<void> {
    this.#session = null
    await this.#listener.close()
    await this.#heart.stop()
    await this.#mesh.close(closePatienceMs)
    this.#heardAt.clear()
  }

  /** While nobody could be heard, nobody was silent. */
  #reconnected(): void {
    if (this.#closing !== null) return
    const now = this.#clock.now()
    for (const name of this.#heardAt.keys()) this.#heardAt.set(name, now)
    this.#heart.start(0)
  }

  async #beat(): Promise<void> {
    try {
      await this.#session?.query(notify, [this.channelName, this.#nodeName])
    } catch (error) {
      this.#logger?.debug({ err: error }, 'a heartbeat could not be sent')
    }
    if (this.isConnected) this.#forgetSilent()
  }

  #forgetSilent(): void {
    const deadline = this.#clock.now() - patienceIntervals * this.#intervalMs
    for (const [nodeName, heardAt] of this.#heardAt) {
      if (heardAt > deadline) continue
      this.#heardAt.delete(nodeName)
      this.#mesh.follow(this.nodes())
      this.#listeners.emit({ type: 'down', nodeName })
    }
  }

  #heard(payload: string): void {
    if (payload === this.#nodeName || this.#closing !== null) return
    const known = this.#heardAt.has(payload)
    if (!isNodeName(payload) || (!known && this.#heardAt.size >= mostNodes)) {
      this.#logger?.debug({ channel: this.channelName }, 'a foreign payload on the channel of the cluster')
      return
    }
    this.#heardAt.set(payload, this.#clock.now())
    if (known) this.#mesh.retryNow(payload)
    else {
      this.#mesh.follow(this.nodes())
      this.#listeners.emit({ type: 'join', nodeName: payload })
    }
  }
}
