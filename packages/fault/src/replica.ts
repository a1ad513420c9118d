import {
  monotonicMicros,
  type SpawnNodeOptions,
  spawnNode,
  type TcpProxy,
  type TestProcess,
  tcpProxy,
} from '@x/testkit'

export interface ReplicaOptions<M> {
  readonly name: string
  readonly actor: URL
  readonly messages: SpawnNodeOptions<M>['messages']
  /** What the actor is told to do, as JSON in its first argument. */
  readonly settings: (context: { readonly url: string; readonly processName: string }) => object
  readonly databaseUrl: string
  readonly onMessage: (processName: string, message: M) => void
}

/**
 * One replica of a service: a line to the database, and one process after another at the end of it. Each process has a
 * name of its own, as each is a stranger to what the one before it held.
 */
export class Replica<M extends { readonly type: string }> implements AsyncDisposable {
  readonly name: string
  readonly line: TcpProxy
  /** When each of its processes could not do its work, and why it is excused. */
  readonly disturbances = new Map<string, { from: number; until: number | null }[]>()
  /** Ends that nobody made: crashes. */
  readonly unexpected: string[] = []
  readonly #options: ReplicaOptions<M>
  #generation = 0
  #process: TestProcess<M> | null = null
  #killed = false

  private constructor(options: ReplicaOptions<M>, line: TcpProxy) {
    this.#options = options
    this.name = options.name
    this.line = line
  }

  static async start<M extends { readonly type: string }>(options: ReplicaOptions<M>): Promise<Replica<M>> {
    const replica = new Replica(options, await tcpProxy(options.databaseUrl))
    await replica.startProcess()
    return replica
  }

  get processName(): string {
    return `${this.name}.${this.#generation}`
  }

  get process(): TestProcess<M> {
    if (this.#process === null) throw new Error(`${this.name} has no process`)
    return this.#process
  }

  get isRunning(): boolean {
    return this.#process?.isRunning ?? false
  }

  async startProcess(): Promise<void> {
    this.#generation += 1
    this.#killed = false
    const { processName } = this
    const { actor, messages, onMessage, settings, databaseUrl } = this.#options
    const started = await spawnNode(actor, {
      messages,
      args: [JSON.stringify(settings({ url: this.line.url(databaseUrl), processName }))],
      onMessage: (message) => onMessage(processName, message),
    })
    this.#process = started
    void started.exited.then(({ code, signal }) => {
      if (this.#process !== started || this.#killed || code === 0) return
      this.unexpected.push(`${processName} ended by itself (${signal ?? code}):\n${started.output().slice(-2_000)}`)
    })
  }

  /** SIGKILL; `startProcess` puts another one in its place. */
  async kill(): Promise<void> {
    this.#killed = true
    this.disturb(null)
    await this.process.kill()
  }

  /** Notes that the process is kept from its work from now on; the result ends that. */
  disturb(until?: null): () => void {
    const disturbance: { from: number; until: number | null } = { from: monotonicMicros(), until: null }
    const list = this.disturbances.get(this.processName) ?? []
    list.push(disturbance)
    this.disturbances.set(this.processName, list)
    return () => {
      if (until === undefined) disturbance.until = monotonicMicros()
    }
  }

  /** Asks the actor to end in good order; resolves to what was not in order. */
  async finish(deadlineMs: number): Promise<readonly string[]> {
    const { process, processName } = this
    process.send({ do: 'finish' })
    const patience = new Promise<null>((resolve) => setTimeout(resolve, deadlineMs, null).unref())
    if ((await Promise.race([process.exited, patience])) !== null) {
      // The server's end of a half-open line: the proxy keeps it open, where a network would let the keepalive find out.
      this.line.cut()
      return this.unexpected
    }
    const stage = process.messages.findLast(({ type }) => type === 'stage')
    return [
      ...this.unexpected,
      `${processName} did not end within ${deadlineMs} ms: ${JSON.stringify(stage ?? 'deaf')}`,
    ]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#killed = true
    await this.#process?.kill()
    await this.line.close()
  }
}
