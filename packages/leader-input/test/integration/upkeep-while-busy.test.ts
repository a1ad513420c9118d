import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { ordersAfter, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('looks after the log while it is halted, while it is paused, and while a consumer takes its time', async () => {
  const pool = database.pool()
  await using halted = shopInput(pool, { name: 'halted', maxAttempts: 1 })
  await using paused = shopInput(pool, { name: 'paused' })
  await using slow = shopInput(pool, { name: 'slow' })
  for (const input of [halted, paused, slow]) await input.install()
  const stop = new AbortController()
  const running = [
    halted.run(
      () => {
        throw new Error('never')
      },
      { signal: stop.signal },
    ),
    paused.run(() => {}, { signal: stop.signal }),
  ]
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('ada', 1), ('bob', 2)")
  const events = slow.events({ signal: stop.signal })
  expect((await events.next()).value?.id).toBe('1')
  await eventually(() => halted.health().status === 'halted' && paused.health().status === 'leading')
  paused.pause()
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('eve', 1)")
  expect([halted, paused, slow].flatMap((input) => input.health().drift)).toEqual([])
  await pool.query('ALTER TABLE orders DISABLE TRIGGER "0_coordination_delete"')
  for (const input of [halted, paused, slow]) {
    await eventually(() => input.health().drift.length > 0, { deadlineMs: 60_000, what: `${input.name} to notice` })
  }
  await pool.query('ALTER TABLE orders ENABLE ALWAYS TRIGGER "0_coordination_delete"')
  // What was waited with goes on where it was.
  expect((await events.next()).value?.id).toBe('2')
  stop.abort()
  await events.return?.()
  await Promise.all(running)
})

it('takes a halted input where seek() says', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'sought', maxAttempts: 1 })
  await input.install()
  const handled: string[] = []
  const stop = new AbortController()
  const running = input.run(
    (events) => {
      const customers = ordersAfter(events).map(({ customer }) => customer)
      if (customers.includes('poison')) throw new Error('never')
      handled.push(...customers)
    },
    { signal: stop.signal },
  )
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('poison', 1)")
  // So that the wait between two tries is longer than it takes to notice.
  await eventually(() => input.health().status === 'halted')
  await input.seek('now')
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('after', 1)")
  await eventually(() => handled.length > 0, { deadlineMs: 60_000 })
  expect(handled).toEqual(['after'])
  stop.abort()
  await running
})
