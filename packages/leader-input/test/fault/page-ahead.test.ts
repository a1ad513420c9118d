/** The page that is read ahead on a second connection, on a line that is late, stands still, and breaks at random times. */
import { setTimeout as delay } from 'node:timers/promises'
import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually, randomSource, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Pool } from 'pg'
import { expect, it } from 'vitest'
import { logStatements } from '../../src/log/statements.ts'
import { itemsInput, keepEvidence } from '../support/evidence.ts'
import { differences, isCaughtUp, workloadTemplate } from '../support/workload.ts'

const database = useDatabase({ template: workloadTemplate })
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
/** Faults, and rows in each of the transactions that are written between them. */
const [faults, rows] = process.env.COORDINATION_LONG === '1' ? [150, 400] : [7, 150]
const { page, latePage, sizedPage } = logStatements('coordination')
const pageTexts = new Set<unknown>([page, latePage, sizedPage].map(({ text }) => text))

it(`hands over everything once and in order although pages that are read ahead come late or never (seed ${seed})`, async () => {
  const random = randomSource(seed)
  const direct = database.pool()
  await using proxy = await tcpProxy(database.url)
  const pool = new Pool({ connectionString: proxy.url(database.url), max: 3, application_name: 'ahead' })
  pool.on('error', () => {})
  const readAhead = countReadAhead(pool)
  await using input = itemsInput({ pool, locker: createMemoryLocker(), batchSize: 10 })
  await input.install()
  const stop = new AbortController()
  const running = input.run(keepEvidence, { signal: stop.signal })
  const handled = async (): Promise<number> => (await direct.query('SELECT count(*)::int AS n FROM effects')).rows[0].n
  let written = 0
  for (let fault = 0; fault < faults; fault += 1) {
    const before = await handled()
    // A window of many pages, and a transaction that is open beside it: it comes late in one of the next.
    const late = await database.client()
    await late.query('BEGIN')
    await write(late, written, 30)
    await write(direct, written + 30, rows)
    await late.query('COMMIT')
    await late.end()
    written += rows + 30
    await eventually(async () => (await handled()) > before, { deadlineMs: 60_000, what: 'something to be handled' })
    const kind = random.pick(['late', 'late', 'cut', 'end one', 'stand still'] as const)
    if (kind === 'late') proxy.delay(random.int(1, 40), random.pick(['to-client', 'to-server', 'both']))
    else if (kind === 'cut') proxy.cut()
    else if (kind === 'end one') {
      const pids = (await direct.query(`SELECT pid FROM pg_stat_activity WHERE application_name = 'ahead'`)).rows
      const [one] = random.shuffle(pids)
      if (one !== undefined) await terminateBackend(direct, one.pid)
    } else {
      proxy.blackHole(random.pick(['to-client', 'to-server']))
      await delay(random.int(10, 300))
      proxy.heal()
    }
    await delay(random.int(0, 100))
  }
  proxy.heal()
  await eventually(() => isCaughtUp(direct), { deadlineMs: 60_000, what: 'everything to be handled' })
  expect(await differences(direct)).toEqual([])
  expect(await handled()).toBe(written)
  expect(readAhead()).toBeGreaterThan(faults)
  stop.abort()
  await running
  await input.close()
  await pool.end()
}, 600_000)

/** Creates so many items in one transaction. */
const write = async (client: Pick<Pool, 'query'>, after: number, count: number): Promise<void> => {
  await client.query(
    `WITH noted AS (INSERT INTO journal (item, what) SELECT $1::int + n, 'create ->' || n FROM generate_series(1, $2::int) n ORDER BY n)
     INSERT INTO items SELECT $1::int + n, n FROM generate_series(1, $2::int) n`,
    [after, count],
  )
}

/** Counts the pages that are asked for while a batch is open on another connection. */
const countReadAhead = (pool: Pool): (() => number) => {
  let count = 0
  const open = new Set<object>()
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown
    const looking = (...args: unknown[]): unknown => {
      const [first] = args
      const text = typeof first === 'object' && first !== null && 'text' in first ? first.text : first
      if (pageTexts.has(text) && open.size > 0) count += 1
      if (typeof text === 'string' && text.startsWith('BEGIN')) open.add(client)
      else if (text === 'COMMIT' || text === 'ROLLBACK') open.delete(client)
      return query(...args)
    }
    client.query = looking as typeof client.query
  })
  pool.on('remove', (client) => open.delete(client))
  return () => count
}
