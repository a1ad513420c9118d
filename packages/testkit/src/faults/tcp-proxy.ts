import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { noFaults, type PipeFaults } from './pipe.ts'
import { ProxiedConnection, type SwallowRequest } from './proxied-connection.ts'

export type Direction = 'to-server' | 'to-client' | 'both'

export interface SwallowOptions {
  /** Only the reply to what contains this text (a statement's name or SQL). @default any */
  matching?: string | undefined
  /**
   * What comes in place of the reply. `cut`: a reset; `end`: an orderly end (FIN), as a load balancer gives; `hang`:
   * nothing, the connection stays.
   *
   * @default 'cut'
   */
  after?: 'cut' | 'end' | 'hang' | undefined
}

/** A line to a server that can be made bad. Faults hold for open connections and for new ones until `heal()`. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number
  /** Connections that are open now. */
  readonly open: number
  /** Connections accepted since the start. */
  readonly accepted: number
  /** The ports from which the server sees its open connections: `pg_stat_activity.client_port`. */
  readonly serverPorts: readonly number[]
  /** The same URL, through the proxy. */
  url(original: string): string
  /** Milliseconds that each piece is late; 0 ends it. */
  delay(ms: number, direction?: Direction): void
  /** At most so many bytes a second. */
  throttle(bytesPerSecond: number, direction?: Direction): void
  /** Holds the bytes back until `heal()`, as a network that loses and retransmits. */
  blackHole(direction?: Direction): void
  /**
   * Open connections swallow every byte and the news of their end from now on, also after `heal()`; neither side sees
   * a reset. New connections are not concerned.
   */
  halfOpen(): void
  /** Resets every open connection (RST). */
  cut(): void
  /** New connections go to another server's port from now on, as after a failover. */
  retarget(port: number): void
  /** Takes no new connections until `heal()`: they are reset. */
  refuse(): void
  /** The next reply, up to and with its ReadyForQuery, does not reach its client. Resolves when that happened. */
  swallowNextReply(options?: SwallowOptions): Promise<void>
  /** Ends delay, throttle, black holes and refusal; bytes that were held back arrive. */
  heal(): void
  /** Resets everything and stops listening. Idempotent. */
  close(): Promise<void>
}

/**
 * Puts a proxy on a free loopback port before a server.
 *
 * @param target the server's URL, or its port on 127.0.0.1
 * @example
 * await using proxy = await tcpProxy(database.url)
 * const locker = createTableLocker({ connectionString: proxy.url(database.url) })
 * proxy.halfOpen()
 */
export const tcpProxy = async (target: string | number): Promise<TcpProxy> => {
  const address =
    typeof target === 'number'
      ? { host: '127.0.0.1', port: target }
      : { host: new URL(target).hostname, port: Number(new URL(target).port || 5432) }
  const connections = new Set<ProxiedConnection>()
  const toServer = noFaults()
  const toClient = noFaults()
  let accepted = 0
  let refusing = false
  let swallow: SwallowRequest | null = null

  const accept = (client: Socket): void => {
    if (refusing) {
      client.resetAndDestroy()
      return
    }
    accepted += 1
    // Half-close passes through: an end of one side is not an end of both.
    const server = connect({ ...address, allowHalfOpen: true })
    const connection = new ProxiedConnection({
      client,
      server,
      toServer,
      toClient,
      nextSwallow: () => swallow,
      claimSwallow: () => {
        swallow = null
      },
      closed: () => connections.delete(connection),
    })
    connections.add(connection)
  }

  const listener = createServer({ allowHalfOpen: true }, accept)
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const bound = listener.address()
  if (bound === null || typeof bound === 'string') throw new Error('expected a TCP address of a listening socket')

  const change = (direction: Direction, faults: Partial<PipeFaults>): void => {
    if (direction !== 'to-client') Object.assign(toServer, faults)
    if (direction !== 'to-server') Object.assign(toClient, faults)
    for (const connection of connections) {
      connection.toServer.flush()
      connection.toClient.flush()
    }
  }
  const cut = (): void => {
    for (const connection of [...connections]) connection.cut()
  }
  let closed: Promise<unknown> | null = null
  const close = async (): Promise<void> => {
    if (closed === null) {
      closed = new Promise((resolve) => listener.close(resolve))
      cut()
    }
    await closed
  }
  return {
    port: bound.port,
    get open() {
      return connections.size
    },
    get accepted() {
      return accepted
    },
    get serverPorts() {
      return [...connections].flatMap(({ serverPort }) => (serverPort === undefined ? [] : [serverPort]))
    },
    url(original) {
      const url = new URL(original)
      url.hostname = '127.0.0.1'
      url.port = String(bound.port)
      return url.href
    },
    delay: (ms, direction = 'both') => change(direction, { delayMs: ms }),
    throttle: (bytesPerSecond, direction = 'both') => change(direction, { bytesPerSecond }),
    blackHole: (direction = 'both') => change(direction, { held: true }),
    halfOpen() {
      for (const connection of connections) connection.goDeaf()
    },
    cut,
    retarget(port) {
      address.port = port
    },
    refuse() {
      refusing = true
    },
    swallowNextReply: ({ matching = '', after = 'cut' } = {}) =>
      new Promise((resolve) => {
        swallow = { matches: (sent) => sent.includes(matching), after, done: resolve }
      }),
    heal() {
      refusing = false
      change('both', noFaults())
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}
