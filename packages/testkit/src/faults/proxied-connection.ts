import type { Socket } from 'node:net'
import { asksForEncryption, BackendMessages } from './backend-messages.ts'
import { Pipe, type PipeFaults } from './pipe.ts'

/** Which reply is swallowed next, and what happens to its connection. */
export interface SwallowRequest {
  /** The bytes that a client sent last; the reply to the first match is swallowed. */
  readonly matches: (sent: string) => boolean
  readonly after: 'cut' | 'end' | 'hang'
  readonly done: () => void
}

/** A client's socket, the server's socket, and a faulty pipe each way between them. */
export class ProxiedConnection {
  readonly toServer: Pipe
  readonly toClient: Pipe
  readonly #client: Socket
  readonly #server: Socket
  readonly #messages = new BackendMessages()
  #swallow: SwallowRequest | null = null
  readonly #nextSwallow: () => SwallowRequest | null
  readonly #claimSwallow: () => void
  readonly #closed: () => void

  constructor(options: {
    client: Socket
    server: Socket
    toServer: PipeFaults
    toClient: PipeFaults
    nextSwallow: () => SwallowRequest | null
    claimSwallow: () => void
    closed: () => void
  }) {
    this.#client = options.client
    this.#server = options.server
    this.#nextSwallow = options.nextSwallow
    this.#claimSwallow = options.claimSwallow
    this.#closed = options.closed
    this.toServer = new Pipe(this.#client, this.#server, options.toServer)
    this.toClient = new Pipe(this.#server, this.#client, options.toClient)
    this.#client.on('data', (piece: Uint8Array) => this.#fromClient(piece))
    this.#server.on('data', (piece: Uint8Array) => this.#fromServer(piece))
    this.#client.on('end', () => this.toServer.push(null))
    this.#server.on('end', () => this.toClient.push(null))
    for (const [socket, pipe] of [
      [this.#client, this.toServer],
      [this.#server, this.toClient],
    ] as const) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', (hadError) => {
        // What a side did abruptly the other side sees abruptly, unless the line is dead.
        if (hadError && !pipe.isDeaf) this.cut()
        if (this.#client.destroyed && this.#server.destroyed) this.#closed()
      })
    }
  }

  #fromClient(piece: Uint8Array): void {
    if (asksForEncryption(piece)) this.#messages.expectEncryptionAnswer()
    const request = this.#nextSwallow()
    if (request?.matches(Buffer.from(piece).toString('latin1'))) {
      this.#claimSwallow()
      this.#swallow = request
    }
    this.toServer.push(piece)
  }

  #fromServer(piece: Uint8Array): void {
    const ready = this.#messages.push(piece)
    const request = this.#swallow
    if (request === null) {
      this.toClient.push(piece)
      return
    }
    if (ready < 0) return
    this.#swallow = null
    if (request.after === 'cut') this.cut()
    else if (request.after === 'end') this.#end()
    else if (ready < piece.length) this.toClient.push(piece.subarray(ready))
    request.done()
  }

  /** The port from which the server sees us; undefined until connected. */
  get serverPort(): number | undefined {
    return this.#server.localPort
  }

  /** From now on nothing passes, and no side learns that the other is gone. */
  goDeaf(): void {
    this.toServer.swallow()
    this.toClient.swallow()
  }

  /** Both sides see an orderly end. */
  #end(): void {
    this.toServer.destroy()
    this.toClient.destroy()
    this.#client.end()
    this.#server.end()
  }

  /** The server's and the client's system see a reset. */
  cut(): void {
    this.toServer.destroy()
    this.toClient.destroy()
    if (!this.#client.destroyed) this.#client.resetAndDestroy()
    if (!this.#server.destroyed) this.#server.resetAndDestroy()
  }
}
