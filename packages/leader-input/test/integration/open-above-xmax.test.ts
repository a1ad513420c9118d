import type { Statement } from '@x/pg-session'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { PoolClient } from 'pg'
import { expect, it } from 'vitest'
import { logStatements } from '../../src/log/statements.ts'
import { countedPool } from '../support/counted-pool.ts'
import { collect, ordersAfter, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

/*
 * A snapshot's xmax is the id after the last that is over. A transaction that is open, has written and has the newest id
 * of all stands above it, and the snapshot does not list it. These tests hold one open there. Ids belong to the server, so
 * whoever else uses it may lift the xmax: then a test shows less, and does not fail.
 */
const attempts = 3

const write = (client: PoolClient, customer: string) =>
  client.query('INSERT INTO orders (customer, cents) VALUES ($1, 1)', [customer])

it("gives what is open above the snapshot of seek('now') and of the cursor of a new input", async () => {
  const pool = database.pool()
  await using writer = shopInput(pool, { name: 'first' })
  await writer.install()
  const client = await pool.connect()
  for (let attempt = 1; attempt <= attempts; attempt += 1) {
    const name = `input ${attempt}`
    await using input = shopInput(pool, { name, lockKey: name })
    await client.query('BEGIN')
    await write(client, `open at install ${attempt}`)
    await input.install()
    await client.query('COMMIT')
    await client.query('BEGIN')
    await write(client, `open at seek ${attempt}`)
    await writer.seek('now')
    await client.query('COMMIT')

    const installed = collect(input)
    const sought = collect(writer)
    await eventually(() => installed.events.length >= 2 && sought.events.length >= 1).catch(() => {})
    expect(ordersAfter(installed.events).map(({ customer }) => customer)).toEqual([
      `open at install ${attempt}`,
      `open at seek ${attempt}`,
    ])
    expect(ordersAfter(sought.events).map(({ customer }) => customer)).toEqual([`open at seek ${attempt}`])
    await installed.stop()
    await sought.stop()
    await input.uninstall()
  }
  client.release()
  await writer.uninstall()
})

it('gives what is open above a window of which everything was passed over', async () => {
  const pool = database.pool()
  // Somebody else captures what this input does not want to see.
  await using everything = shopInput(pool, { name: 'everything' })
  await everything.install()
  const { pool: counted, sent } = countedPool(database)
  await using input = shopInput(counted, { name: 'updates', lockKey: 'updates', operations: ['update'] })
  await input.install()
  const { events, stop } = collect(input)
  const [earlier, newest] = [await pool.connect(), await pool.connect()]
  const { probe, revision } = logStatements('coordination')
  const another = async (statement: Statement, times: number): Promise<void> => {
    const before = sent(statement)
    await eventually(() => sent(statement) >= before + times, { everyMs: 1 })
  }
  for (let attempt = 1; attempt <= attempts; attempt += 1) {
    const { rows } = await pool.query<{ id: number }>(
      "INSERT INTO orders (customer, cents) VALUES ('x', 0) RETURNING id",
    )
    await eventually(() => input.health().status === 'leading')
    input.pause()
    await another(revision, 1) // what it does once a second comes before it sees that it is paused
    await earlier.query('BEGIN')
    await write(earlier, 'passed over')
    await newest.query('BEGIN')
    await newest.query('UPDATE orders SET cents = $1 WHERE id = $2', [attempt, rows[0]?.id])
    await earlier.query('COMMIT')
    input.resume()
    // Past the window that ends below the open one, and not as far as the next, which would list it as in progress.
    await another(probe, 2)
    input.pause()
    await another(revision, 1)
    await newest.query('COMMIT')
    input.resume()
    await eventually(() => events.length >= attempt).catch(() => {})
    expect(events.map(({ operation }) => operation)).toEqual(Array(attempt).fill('update'))
  }
  earlier.release()
  newest.release()
  await stop()
  await input.uninstall()
  await everything.uninstall()
})
