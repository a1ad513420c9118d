import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A line to a server that counts the statements which it is told to prepare. */
export interface CountingLine extends AsyncDisposable {
  /** The same URL, through the line. */
  url(original: string): string
  /** Connections accepted since the start. */
  readonly connections: number
  /** How often each name was prepared: Parse messages of the protocol, without those that have no name. */
  readonly prepared: Readonly<Record<string, number>>
}

/** @param port the server's, on 127.0.0.1 */
export async function countingLine(port: number): Promise<CountingLine> {
  const prepared: Record<string, number> = {}
  const open = new Set<Socket>()
  let connections = 0
  const listener = createServer((client) => {
    connections += 1
    const server = connect(port, '127.0.0.1')
    const read = parseReader((name) => {
      if (name !== '') prepared[name] = (prepared[name] ?? 0) + 1
    })
    open.add(client)
    client.on('close', () => open.delete(client))
    client.on('data', read)
    client.pipe(server).pipe(client)
    client.on('error', () => server.destroy())
    server.on('error', () => client.destroy())
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  return {
    url(original) {
      const url = new URL(original)
      url.port = String(typeof address === 'object' ? address?.port : '')
      return url.href
    },
    get connections() {
      return connections
    },
    get prepared() {
      return { ...prepared }
    },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        listener.close(() => resolve())
        for (const client of open) client.destroy()
      }),
  }
}

/** Reads what a client sends and tells the name in each Parse message. */
function parseReader(told: (name: string) => void): (bytes: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  // The first message has no letter before its length.
  let header = 0
  return (bytes) => {
    rest = Buffer.concat([rest, bytes])
    while (rest.length >= header + 4) {
      const length = header + rest.readInt32BE(header)
      if (rest.length < length) return
      if (header === 1 && rest[0] === 'P'.charCodeAt(0)) told(rest.toString('utf8', 5, rest.indexOf(0, 5)))
      rest = rest.subarray(length)
      header = 1
    }
  }
}
