import { execFile } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { connectionSource, createListener, createRunner, migrate, openSession } from '../../src/index.ts'

const database = useDatabase()
const applicationName = 'pg-session nothing left'
const one = { name: 'one', text: 'SELECT 1' }
const hung = { name: 'hung', text: 'SELECT pg_sleep(30)' }

it('nothing stays on the caller’s signal, whatever came of the call', async () => {
  await using proxy = await tcpProxy(database.url)
  const { signal } = new AbortController()
  const source = connectionSource({ connectionString: database.url }, 'test')
  const session = await openSession({ source, applicationName, signal })
  await session.close()
  const refused = connectionSource({ connectionString: 'postgres://127.0.0.1:1/none' }, 'test')
  await expect(openSession({ source: refused, applicationName, signal })).rejects.toMatchObject({ code: 'CONNECTION' })

  const runner = createRunner({ pool: database.pool({ max: 1 }), applicationName })
  for (let n = 0; n < 20; n += 1) await runner.query(one, [], { signal })
  await expect(runner.query({ name: 'wrong', text: 'SELEC' }, [], { signal })).rejects.toThrow()
  await expect(runner.query(hung, [], { signal, timeoutMs: 100 })).rejects.toMatchObject({ code: 'CONNECTION' })
  await migrate(database.pool(), { package: 'fencing', migrations: ['0001_fencing'] }, { signal })
  await runner.close()

  const listener = createListener({
    source: connectionSource({ connectionString: proxy.url(database.url) }, 'test'),
    applicationName,
    onNotification: () => {},
    onResync: () => proxy.cut(),
    signal,
  })
  await listener.listen('orders')
  await listener.close()
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

it('a pool of our own that nobody closes does not keep the process alive', async () => {
  const fixture = fileURLToPath(new URL('../fixtures/forgotten-runner.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [fixture, database.url], { timeout: 120_000 })
  const [answer, lingeredMs] = JSON.parse(stdout)
  expect(answer).toBe(42)
  // An idle client that held the process would do so for ten seconds.
  expect(lingeredMs).toBeLessThan(8_000)
})
