import { useDatabase } from '@x/testkit/vitest'
import type { Client, Notification } from 'pg'
import { expect, it, type TestContext } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const handOffs = 2

/** Statements of every level that the server ran for this database since the last reset, by what they do. */
const calls = `SELECT calls::int AS calls, query FROM pg_stat_statements
  WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%lock_sessions WHERE channel%'
    -- The heart of a listener beats by itself.
    AND query NOT LIKE '%pg_listening_channels%' AND query NOT LIKE 'LISTEN%'`

const counting = async (client: Client, { skip }: TestContext): Promise<void> => {
  const extended = await client.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements').then(
    () => client.query('SELECT FROM pg_stat_statements LIMIT 1').then(() => null),
    (error: Error) => error.message,
  )
  if (extended !== null) skip(`pg_stat_statements is not to be had on this server: ${extended}`)
  // Those that run inside the function too; for connections that are opened from now on.
  await client.query(
    `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET pg_stat_statements.track = ''all''', current_database()); END $$`,
  )
}

it('a hand-off is as many statements, and one notification to one process, with 200 waiters as with 2', async (context) => {
  const client = await database.client()
  await counting(client, context)
  const statements: Record<number, number> = {}
  const total = async (): Promise<number> => {
    const { rows } = await client.query(calls)
    return rows.reduce((sum: number, row: { calls: number }) => sum + row.calls, 0)
  }
  for (const count of [2, 20, 200]) {
    const key = `cost/${count}`
    // Far from any poll, so that what is counted is the hand-offs.
    const options = { connectionString: database.url, pollMs: 60_000, claimMs: 30_000, ttlMs: 60_000 }
    await using first = createTableLocker(options)
    await using second = createTableLocker(options)
    const lock = await first.acquire(key)
    const over = new AbortController()
    const enough = Promise.withResolvers<void>()
    const served: number[] = []
    const waits: Promise<void>[] = []
    const wait = async (place: number): Promise<void> => {
      const locker = place % 2 === 0 ? second : first
      try {
        const next = await locker.acquire(key, { signal: over.signal, renew: 'manual' })
        served.push(place)
        if (served.length === handOffs) enough.resolve()
        else await next.release()
      } catch {
        // Nobody gives the lock to those who are left.
      }
    }
    for (let place = 0; place < count; place += 1) {
      waits.push(wait(place))
      // The first two by turns, so that each hand-off is to the other process; the order of the rest does not matter.
      if (place < 2) await expect.poll(async () => (await first.status(key)).waiters).toBe(place + 1)
    }
    await expect.poll(async () => (await first.status(key)).waiters).toBe(count)
    const channels = async (): Promise<string[]> => {
      const { rows } = await client.query('SELECT channel FROM coordination.lock_sessions WHERE channel IS NOT NULL')
      return rows.map((row: { channel: string }) => row.channel)
    }
    await expect.poll(async () => (await channels()).length).toBe(2)

    const heard: Notification[] = []
    const ears = await database.client()
    ears.on('notification', (notification) => heard.push(notification))
    for (const channel of [...(await channels()), 'end_of_count']) await ears.query(`LISTEN "${channel}"`)
    // What the start of the listeners brought about is over.
    let before = -1
    const isQuiet = async (): Promise<boolean> => {
      const now = await total()
      const quiet = now === before
      before = now
      return quiet
    }
    await expect.poll(isQuiet, { interval: 500 }).toBe(true)
    // Of this database alone: tests in others count at the same time.
    await client.query(
      'SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)',
    )
    await lock.release()
    await enough.promise
    // One renewal turns the claim of the lock that is kept into a lease; the one that was given back at once needed none.
    await expect
      .poll(async () => (await client.query(calls)).rows.filter(({ query }) => /FROM .*lock_renew/.test(query)))
      .toMatchObject([{ calls: handOffs - 1 }])
    statements[count] = await total()
    await client.query('NOTIFY end_of_count')
    await expect.poll(() => heard.at(-1)?.channel).toBe('end_of_count')
    const told = heard.slice(0, -1).map(({ channel }) => channel)
    expect(told).toHaveLength(handOffs)
    expect(new Set(told).size).toBe(handOffs)
    expect(served).toEqual([0, 1])
    over.abort()
    await Promise.all(waits)
    await ears.end()
    await first.forceRelease(key, { immediate: true })
  }
  expect(statements[2]).toBeGreaterThanOrEqual(3 * handOffs)
  expect(statements).toEqual({ 2: statements[2], 20: statements[2], 200: statements[2] })
  await client.end()
})
