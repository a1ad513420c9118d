import { once } from 'node:events'
import { createServer, type Server } from 'node:http'

/** Where peers reach each other, as the cluster knows them. */
interface Peer {
  readonly id: string
  readonly address: string | null
}

/**
 * One open HTTP response to every peer: when a process ends, its peers see the end of the stream. Whom to connect is
 * not decided here; `connect` and `disconnect` are called by the cluster.
 */
export class PeerLinks {
  readonly #server: Server
  readonly #links = new Map<string, AbortController>()

  /** @param handle called for work that a peer hands over; the answer goes back to it */
  constructor(handle: (key: string) => string) {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://peer')
      if (url.pathname === '/link') response.writeHead(200).write('hello\n')
      else response.end(handle(url.searchParams.get('key') ?? ''))
    })
  }

  /** Starts to listen on a free port of the loopback. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('expected a TCP address')
    return `http://127.0.0.1:${address.port}`
  }

  readonly connect = async (peer: Peer, signal: AbortSignal): Promise<void> => {
    const link = new AbortController()
    const response = await fetch(`${peer.address}/link`, { signal: AbortSignal.any([signal, link.signal]) })
    if (!response.ok || response.body === null) throw new Error(`peer ${peer.id} answered ${response.status}`)
    this.#links.set(peer.id, link)
    void drain(response.body).finally(() => {
      if (this.#links.get(peer.id) === link) this.#links.delete(peer.id)
    })
  }

  readonly disconnect = (peer: Peer): void => {
    this.#links.get(peer.id)?.abort()
    this.#links.delete(peer.id)
  }

  /** Hands a key over to its owner. */
  async handOver(key: string, owner: Peer): Promise<string> {
    const response = await fetch(`${owner.address}/work?key=${encodeURIComponent(key)}`, {
      signal: AbortSignal.timeout(1_000),
    })
    return response.text()
  }

  /** Peers with an open link. */
  linked(): readonly string[] {
    return [...this.#links.keys()].sort()
  }

  close(): void {
    for (const link of this.#links.values()) link.abort()
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

const drain = async (body: ReadableStream<Uint8Array>): Promise<void> => {
  try {
    for await (const _ of body);
  } catch {
    // The peer is gone; the cluster says so.
  }
}
