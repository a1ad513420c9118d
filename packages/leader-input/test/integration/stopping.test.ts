import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { createLeaderInput } from '../../src/index.ts'
import { type Shop, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

for (const way of ['the signal', 'close()'] as const) {
  it(`stops soon at ${way}, whatever the line to the server has become`, async () => {
    const name = `stops-${way}`
    await using installed = shopInput(database.pool(), { name })
    await installed.install()
    await using proxy = await tcpProxy(database.url)
    const input = createLeaderInput<Shop>({
      connectionString: proxy.url(database.url),
      locker: createMemoryLocker(),
      name,
      tables: ['orders'],
    })
    const stop = new AbortController()
    const running = input.run(() => {}, { signal: stop.signal })
    await eventually(() => input.health().status === 'leading')
    proxy.blackHole()
    // A statement is on its way by then, and will not be answered.
    await new Promise((resolve) => setTimeout(resolve, 600))
    const startedAt = performance.now()
    if (way === 'the signal') {
      stop.abort()
      await running
    } else {
      await input.close()
      await running
    }
    // 2 s of patience; a statement would be given up after 20.
    expect(performance.now() - startedAt).toBeLessThan(12_000)
    proxy.heal()
    await input.close()
  })
}

it('waits neither for a page that it reads ahead on a dead line', async () => {
  const pool = database.pool()
  await using installed = shopInput(pool, { name: 'ahead' })
  await installed.install()
  await pool.query("INSERT INTO orders (customer, cents) SELECT 'customer', n FROM generate_series(1, 500) n")
  await using proxy = await tcpProxy(database.url)
  const input = createLeaderInput<Shop>({
    connectionString: proxy.url(database.url),
    locker: createMemoryLocker(),
    name: 'ahead',
    tables: ['orders'],
    batchSize: 5,
  })
  const stop = new AbortController()
  let batches = 0
  const running = input.run(
    () => {
      batches += 1
      // What is read ahead at this moment is not answered, and neither is the commit.
      if (batches === 3) proxy.blackHole('to-client')
    },
    { signal: stop.signal },
  )
  await eventually(() => batches === 3)
  const startedAt = performance.now()
  stop.abort()
  await running
  await input.close()
  expect(performance.now() - startedAt).toBeLessThan(12_000)
})
