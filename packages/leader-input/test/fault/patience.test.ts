import { setTimeout as delay } from 'node:timers/promises'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { collect, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

/** Longer than what most statements are waited for, which is 20 s. */
const longerMs = 25_000

it.skipIf(process.env.COORDINATION_LONG !== '1')(
  'waits for a page longer than for other statements, and keeps the lead (COORDINATION_LONG=1)',
  {
    timeout: 120_000,
  },
  async () => {
    const pool = database.pool()
    await using input = shopInput(pool)
    await input.install()
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('a', 1)")
    const gate = await database.client()
    await gate.query('BEGIN; LOCK TABLE coordination.changes IN ACCESS EXCLUSIVE MODE')
    const { events, stop } = collect(input)
    const isWaiting = async (): Promise<boolean> => {
      const waiting = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM%changes c WHERE%'`
      return (await pool.query(waiting)).rowCount === 1
    }
    await eventually(isWaiting, { deadlineMs: 30_000, what: 'a page to be waited for' })
    await delay(longerMs)
    expect(await isWaiting()).toBe(true)
    await gate.query('COMMIT')
    await eventually(() => events.length === 1, { deadlineMs: 30_000 })
    expect(input.health()).toMatchObject({ status: 'leading', epoch: 1n, lastError: null })
    await stop()
  },
)
