import { createServer } from 'node:net'

/** Somebody took the port between our look and the start of the program. */
export class PortTakenError extends Error {}

/**
 * A loopback port that nobody uses at this moment. Another process may take it before its caller does, so a caller
 * that cannot bind asks for another one.
 */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port)
        else reject(new Error('expected a TCP address of a listening socket'))
      })
    })
  })
