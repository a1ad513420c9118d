import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { ordersAfter, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it("takes 'now' for when the cursor is its own, not for when it began to wait for a batch", async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { ownChanges: true })
  await input.install()
  const gate = Promise.withResolvers<void>()
  let entered = false
  const handled: string[] = []
  const stop = new AbortController()
  const running = input.run(
    async (events) => {
      const customers = ordersAfter(events).map(({ customer }) => customer)
      handled.push(...customers)
      if (customers.includes('first')) {
        entered = true
        await gate.promise
      }
    },
    { signal: stop.signal },
  )
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('first', 1)")
  await eventually(() => entered)
  const sought = input.seek('now')
  await eventually(async () => {
    const { rows } = await pool.query(
      "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%cursors%' AND datname = current_database()",
    )
    return rows.length === 1
  })
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('while it waited', 1)")
  gate.resolve()
  await sought
  const before = handled.length
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('afterwards', 1)")
  await eventually(() => handled.includes('afterwards'), { deadlineMs: 60_000 })
  // The leader may have been faster than seek(), and have handled it before; afterwards it does not come.
  expect(handled.slice(before)).toEqual(['afterwards'])
  stop.abort()
  await running
})
