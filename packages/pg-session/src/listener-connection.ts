import { randomUUID } from 'node:crypto'
import { ClosedError, ConnectionError, type CoordinationError, UnsupportedError } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import type pg from 'pg'
import { connectClient, nameClient } from './client.ts'
import { introduceWire } from './introduction.ts'
import type { Row, Statement } from './statement.ts'
import * as statements from './statements.ts'
import { type DisposableSubscriber, disposableSubscriber } from './subscriber.ts'
import { Wire } from './wire.ts'

export interface ListenerConnectionOptions {
  readonly settings: pg.ClientConfig
  readonly applicationName: string
  readonly detectMs: number
  readonly pooler: 'refuse' | 'session' | undefined
  readonly signal: AbortSignal
  /** Must only enqueue. */
  readonly onNotification: (channel: string, payload: string) => void
}

/** One connection that listens, from its first byte to its last; a lost one is replaced by another. */
export class ListenerConnection {
  readonly pid: number
  /** Resolves with the reason when the connection is lost, with null when it was closed. */
  readonly ended: Promise<CoordinationError | null>
  readonly #subscriber: DisposableSubscriber
  readonly #wire: Wire
  readonly #settle: (error: CoordinationError | null) => void

  private constructor(
    pid: number,
    parts: {
      subscriber: DisposableSubscriber
      wire: Wire
      ended: PromiseWithResolvers<CoordinationError | null>
    },
  ) {
    this.pid = pid
    this.#subscriber = parts.subscriber
    this.#wire = parts.wire
    this.ended = parts.ended.promise
    this.#settle = parts.ended.resolve
  }

  /**
   * Connects, checks who is at the other end, and shows that a notification arrives. The signal ends the connection, now
   * and later.
   *
   * @throws {PoolerDetectedError} {UnsupportedError} {ConnectionError} or the signal's reason
   */
  static async open(options: ListenerConnectionOptions): Promise<ListenerConnection> {
    const { detectMs, applicationName, signal } = options
    const probe = { channel: `coordination_probe_${randomUUID().replaceAll('-', '')}`, heard: () => {} }
    const subscriber = disposableSubscriber(
      {
        connectionTimeoutMillis: detectMs,
        ...options.settings,
        keepAliveInitialDelayMillis: detectMs,
      },
      (channel, payload) => (channel === probe.channel ? probe.heard() : options.onNotification(channel, payload)),
    )
    const { client } = subscriber
    nameClient(client, applicationName)
    const connectedAt = monotonicNow()
    await connectClient(client, { connect: () => subscriber.subscriber.connect(), signal })

    const ended = Promise.withResolvers<CoordinationError | null>()
    const wire: Wire = new Wire(client, connectedAt, {
      detectMs,
      what: 'listener',
      heartbeat: () => checkChannels(wire, subscriber),
      onLost: ended.resolve,
    })
    const { pid } = await introduceWire(wire, client, {
      what: 'listener',
      detectMs,
      pooler: options.pooler,
      requirePrimary: true,
      settings: {},
      signal,
    })
    const connection = new ListenerConnection(pid, { subscriber, wire, ended })
    const stop = (): void => void connection.close()
    signal.addEventListener('abort', stop, { once: true })
    void connection.ended.then(() => signal.removeEventListener('abort', stop))
    if (signal.aborted) stop()
    try {
      await connection.#probe(probe, detectMs)
      return connection
    } catch (error) {
      await connection.close()
      signal.throwIfAborted()
      throw error
    }
  }

  /** The last instant at which the connection is known to have worked. */
  get provenAt(): number {
    return this.#wire.provenAt
  }

  listen(channel: string): Promise<void> {
    return this.#wire.run(`listen ${channel}`, async () => {
      const { subscriber } = this.#subscriber
      // Looked up when its turn has come: an UNLISTEN may wait before it. pg-listen would answer a second one at once.
      if (!subscriber.getSubscribedChannels().includes(channel)) await subscriber.listenTo(channel)
    })
  }

  unlisten(channel: string): Promise<void> {
    return this.#wire.run(`unlisten ${channel}`, async () => {
      await this.#subscriber.subscriber.unlisten(channel)
    })
  }

  query<R extends Row = Row>(statement: Statement, values: unknown[], timeoutMs?: number): Promise<R[]> {
    return this.#wire.query(statement, values, timeoutMs)
  }

  keepProcess(on: boolean): void {
    this.#wire.keepProcess(on)
  }

  /** Resolves when the socket is closed. Idempotent. */
  async close(): Promise<void> {
    // Tells the subscriber that the end is wanted, so that it does not take it for a loss.
    this.#subscriber.subscriber.close().catch(() => {})
    await this.#wire.close()
    this.#settle(null)
  }

  /** Settles as the promise does, or rejects when the connection ends; for what would not notice by itself. */
  whileOpen<T>(promise: Promise<T>): Promise<T> {
    const ended = this.ended.then((error) => {
      throw error ?? new ClosedError('listener')
    })
    return Promise.race([promise, ended])
  }

  /** Some servers accept LISTEN and NOTIFY and deliver nothing: what was never heard is not believed in. */
  async #probe(probe: { readonly channel: string; heard: () => void }, detectMs: number): Promise<void> {
    const heard = Promise.withResolvers<true>()
    probe.heard = () => heard.resolve(true)
    await this.listen(probe.channel)
    await this.query(statements.notify, [probe.channel, ''])
    // The server sends it after the transaction's end, with or right behind the answer. One that answers to a further
    // statement and has not sent it never will; a line that died meanwhile says nothing of the server.
    const judge = async (): Promise<void> => {
      await this.query(statements.heartbeat, [])
      throw new UnsupportedError(
        `listener: expected to hear a notification of its own within ${detectMs} ms, got none although the server took LISTEN and NOTIFY; connect past whatever stands between, or do without listening`,
      )
    }
    const timer = setTimeout(() => void judge().catch(heard.reject), detectMs)
    try {
      await this.whileOpen(heard.promise)
    } finally {
      clearTimeout(timer)
      heard.promise.catch(() => {})
    }
    await this.unlisten(probe.channel)
  }
}

/** The heartbeat: the server answers, and still knows of every channel. */
async function checkChannels(wire: Wire, { subscriber }: DisposableSubscriber): Promise<void> {
  const expected = subscriber.getSubscribedChannels()
  const rows = await wire.query<[string]>(statements.listeningChannels, [])
  const known = new Set(rows.map(([channel]) => channel))
  const missing = expected.find((channel) => !known.has(channel))
  if (missing !== undefined)
    throw new ConnectionError(`listener: the server does not know of channel ${missing} any more`)
}
