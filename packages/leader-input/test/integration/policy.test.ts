import type { Policy } from '@x/lock-core'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { collect, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

/** Passes everything on, or refuses everything, as a circuit breaker does. */
const breaker = (): Policy & { open: boolean; passed: number; refused: number } => ({
  open: false,
  passed: 0,
  refused: 0,
  async execute(fn) {
    if (this.open) {
      this.refused += 1
      throw new Error('the circuit is open')
    }
    this.passed += 1
    return fn({})
  },
})

it('sends its statements through the policy, and goes on once an open breaker closes', async () => {
  const pool = database.pool()
  const policy = breaker()
  await using input = shopInput(pool, { policy })
  await input.install()
  const installed = policy.passed
  expect(installed).toBeGreaterThan(0)
  const { events, stop } = collect(input)
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('ada', 1)")
  await eventually(() => events.length === 1)
  expect(policy.passed).toBeGreaterThan(installed)
  policy.open = true
  await eventually(() => policy.refused > 2)
  await expect(input.lag()).rejects.toThrow('the circuit is open')
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('bob', 1)")
  policy.open = false
  await eventually(() => events.length === 2, { deadlineMs: 60_000 })
  await stop()
})

it('leaves the statements of a transaction alone: only the whole can be tried again', async () => {
  const pool = database.pool()
  const policy = breaker()
  await using input = shopInput(pool, { name: 'whole', policy })
  await input.install()
  const stop = new AbortController()
  let refusedBefore = -1
  const running = input.run(
    async (_, { client }) => {
      policy.open = true
      refusedBefore = policy.refused
      await client.query("INSERT INTO notes (body) VALUES ('handled')")
    },
    { signal: stop.signal },
  )
  await pool.query("INSERT INTO orders (customer, cents) VALUES ('eve', 1)")
  // The cursor was moved, the note written, and both committed, with the circuit open.
  await eventually(async () => (await pool.query('SELECT FROM notes')).rows.length === 1)
  expect(refusedBefore).toBe(0)
  policy.open = false
  stop.abort()
  await running
})

it('refuses a policy without execute()', () => {
  expect(() => shopInput(database.pool(), { policy: {} as never })).toThrow(/policy.*execute/s)
})
