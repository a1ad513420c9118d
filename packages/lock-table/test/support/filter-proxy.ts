import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** What some databases that speak the protocol do not have. */
const missing = /\b(LISTEN|UNLISTEN|NOTIFY|pg_notify|pg_(try_)?advisory_\w+|pg_walfile_name)\b/i

/** ErrorResponse: feature_not_supported. */
const refusal = (): Buffer => {
  const fields = ['SERROR', 'VERROR', 'C0A000', 'Mfeature not supported'].map((field) => `${field}\0`).join('')
  const body = Buffer.from(`${fields}\0`)
  const message = Buffer.alloc(5 + body.length)
  message.write('E')
  message.writeInt32BE(4 + body.length, 1)
  body.copy(message, 5)
  return message
}
const ready = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

export interface FilterProxy extends AsyncDisposable {
  url(original: string): string
  /** How many statements were refused. */
  readonly refused: number
}

/**
 * Stands before a server and answers statements that use what a wire-compatible database may lack with "feature not
 * supported", without forwarding them.
 */
export const filterProxy = async (target: string): Promise<FilterProxy> => {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let refused = 0

  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    upstream.pipe(client)
    let rest = Buffer.alloc(0)
    let started = false
    // After a refused Parse everything up to Sync is skipped, as a server does.
    let skipping = false
    client.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk])
      for (;;) {
        const header = started ? 1 : 0
        if (rest.length < header + 4) return
        const length = header + rest.readInt32BE(header)
        if (rest.length < length) return
        const message = rest.subarray(0, length)
        rest = rest.subarray(length)
        const type = started ? String.fromCharCode(message[0] ?? 0) : 'startup'
        started = true
        if (skipping) {
          if (type !== 'S') continue
          skipping = false
          client.write(ready)
        } else if ((type === 'Q' || type === 'P') && missing.test(message.toString('utf8', 5))) {
          refused += 1
          client.write(refusal())
          if (type === 'Q') client.write(ready)
          else skipping = true
        } else {
          upstream.write(message)
        }
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('expected a TCP address of a listening socket')
  return {
    get refused() {
      return refused
    },
    url(original) {
      const url = new URL(original)
      url.hostname = '127.0.0.1'
      url.port = String(address.port)
      return url.href
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
