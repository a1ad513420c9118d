import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { createRunner } from '@x/pg-session'
import { expect, it } from 'vitest'

it('a server that accepts and says nothing keeps neither a statement nor close() waiting', async () => {
  const sockets = new Set<Socket>()
  const deaf = createServer((socket) => void sockets.add(socket.on('error', () => {}))).listen(0, '127.0.0.1')
  await once(deaf, 'listening')
  const address = deaf.address()
  if (address === null || typeof address === 'string') throw new Error('expected a TCP address')
  const runner = createRunner({
    connectionString: `postgres://nobody@127.0.0.1:${address.port}/nothing`,
    applicationName: 'deaf-server',
  })
  try {
    const statement = runner.query({ name: 'one', text: 'SELECT 1' }, [], { timeoutMs: 200 })
    await expect(statement).rejects.toMatchObject({ code: 'CONNECTION' })
    const started = performance.now()
    await runner.close()
    expect(performance.now() - started).toBeLessThan(10_000)
  } finally {
    for (const socket of sockets) socket.destroy()
    deaf.close()
  }
})
