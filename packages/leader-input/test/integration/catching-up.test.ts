import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { ordersAfter, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

for (const max of [1, 2, 4]) {
  it(`reads ahead where the pool has a connection to spare, and waits for none: a pool of ${max}`, async () => {
    const writer = database.pool()
    const name = `pool-of-${max}`
    const pool = new Pool({ connectionString: database.url, max })
    await using input = shopInput(pool, { name, batchSize: 7 })
    await input.install()
    await writer.query("INSERT INTO orders (customer, cents) SELECT 'customer ' || n, n FROM generate_series(1, 200) n")
    const handled: number[] = []
    let mostWaiting = 0
    const stop = new AbortController()
    const running = input.run(
      async (events) => {
        mostWaiting = Math.max(mostWaiting, pool.waitingCount)
        // The handler's own use of the pool goes before reading ahead.
        if (max > 1) await pool.query('SELECT 1')
        handled.push(...ordersAfter(events).map(({ cents }) => cents))
      },
      { signal: stop.signal },
    )
    await eventually(() => handled.length >= 200, { deadlineMs: 60_000 })
    stop.abort()
    await running
    expect(handled).toEqual(Array.from({ length: 200 }, (_, n) => n + 1))
    // A pool keeps everyone who asks: once for each page would be without end.
    expect(mostWaiting).toBeLessThanOrEqual(1)
    await pool.end()
  })
}

it('delivers large rows in pages of few bytes, in order and whole', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'large', batchSize: 50, maxBatchBytes: 20_000 })
  await input.install()
  await pool.query(
    `INSERT INTO orders (customer, cents)
     SELECT repeat('x', CASE WHEN n % 10 = 0 THEN 30000 WHEN n % 3 = 0 THEN 3000 ELSE 10 END), n FROM generate_series(1, 120) n`,
  )
  const batches: { cents: number; length: number }[][] = []
  const stop = new AbortController()
  const running = input.run(
    (events) => {
      batches.push(ordersAfter(events).map(({ customer, cents }) => ({ cents, length: customer.length })))
    },
    { signal: stop.signal },
  )
  await eventually(() => batches.flat().length >= 120, { deadlineMs: 60_000 })
  stop.abort()
  await running
  expect(batches.flat().map(({ cents }) => cents)).toEqual(Array.from({ length: 120 }, (_, n) => n + 1))
  for (const { cents, length } of batches.flat())
    expect(length).toBe(cents % 10 === 0 ? 30_000 : cents % 3 === 0 ? 3_000 : 10)
  for (const batch of batches) {
    const bytes = batch.reduce((sum, { length }) => sum + length, 0)
    if (batch.length > 1) expect(bytes).toBeLessThanOrEqual(20_000)
  }
})
