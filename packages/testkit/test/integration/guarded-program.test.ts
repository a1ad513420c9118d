import { once } from 'node:events'
import { createServer } from 'node:net'
import { describeWith } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { freePort } from '../../src/process/free-port.ts'
import { startProgram } from '../../src/process/guarded-program.ts'
import { requireProgram } from '../../src/servers/system-program.ts'

describeWith('pgbouncer', 'a program whose port somebody takes before it does', () => {
  it('starts on another one, and is not mistaken for who has the first', async () => {
    const other = createServer().listen(await freePort(), '127.0.0.1')
    await once(other, 'listening')
    const address = other.address()
    if (address === null || typeof address === 'string') throw new Error('expected a TCP address')
    const ports = [address.port, await freePort()]
    await using program = await startProgram({
      program: requireProgram('pgbouncer'),
      files: (port) => ({
        'pgbouncer.ini': `[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\n`,
      }),
      args: () => ['pgbouncer.ini'],
      ready: /process up/,
      choosePort: async () => ports.shift() ?? freePort(),
    })
    expect(program.port).not.toBe(address.port)
    expect(program.log()).toContain(`listening on 127.0.0.1:${program.port}`)
    await new Promise((resolve) => other.close(resolve))
  })
})
