import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('says for how long a window of several batches is worked at, and what is left of it', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { batchSize: 4 })
  await input.install()
  await pool.query("INSERT INTO orders (customer, cents) SELECT 'customer', n FROM generate_series(1, 10) n")
  let goOn = (): void => {}
  const gate = new Promise<void>((resolve) => {
    goOn = resolve
  })
  let batches = 0
  const stop = new AbortController()
  const running = input.run(
    async () => {
      batches += 1
      if (batches === 2) await gate
    },
    { signal: stop.signal },
  )
  await eventually(() => batches === 2)
  // The first batch is committed, the second is not.
  const first = await input.lag()
  expect(first.events).toBe(6)
  expect(first.windowAgeMs).toBeGreaterThan(0)
  const later = await eventually(async () => {
    const lag = await input.lag()
    return lag.windowAgeMs > first.windowAgeMs + 20 && lag
  })
  expect(later).toMatchObject({ events: 6, eventsIsLowerBound: false })
  goOn()
  await eventually(async () => (await input.lag()).events === 0)
  expect(await input.lag()).toMatchObject({ oldestMs: 0, windowAgeMs: 0 })
  stop.abort()
  await running
})

it('counts no more than ten thousand, and says that there are more', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'far-behind' })
  await input.install()
  await pool.query("INSERT INTO orders (customer, cents) SELECT 'customer', n FROM generate_series(1, 10001) n")
  expect(await input.lag()).toMatchObject({ events: 10_000, eventsIsLowerBound: true })
  await pool.query('TRUNCATE coordination.changes')
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('last', 1)")
  expect(await input.lag()).toMatchObject({ events: 1, eventsIsLowerBound: false })
})
