import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually, spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { itemsInput } from '../support/evidence.ts'
import { workloadTemplate } from '../support/workload.ts'

const database = useDatabase({ template: workloadTemplate })

/** Chunks of a hundred; a process is killed each time that so many more rows have been read. */
const [rows, killEvery] = process.env.COORDINATION_LONG === '1' ? [200_000, 10_000] : [6_000, 1_700]

it('reads each row once although the process that reads is killed again and again', async () => {
  const pool = database.pool()
  await pool.query(`INSERT INTO items SELECT n, n FROM generate_series(1, ${rows}) n`)
  await using input = itemsInput({ pool, locker: createMemoryLocker(), backfill: { chunkSize: 100 } })
  await input.install()
  const read = async (): Promise<number> => (await pool.query('SELECT count(*)::int AS n FROM effects')).rows[0].n
  let killed = 0
  for (let upTo = killEvery; ; upTo += killEvery) {
    await using reader = await spawnNode(new URL('../support/replica.ts', import.meta.url), {
      messages: z.unknown(),
      args: [database.url, 'everyone', `reader-${upTo}`, 'backfill'],
    })
    await eventually(async () => (await read()) >= Math.min(upTo, rows), { deadlineMs: 60_000, what: `${upTo} rows` })
    await reader.kill()
    if (upTo >= rows) break
    killed += 1
  }
  const { rows: effects } = await pool.query(
    `SELECT count(*)::int AS all, count(DISTINCT item)::int AS items, bool_and(what LIKE 'read %') AS read FROM effects`,
  )
  expect(effects).toEqual([{ all: rows, items: rows, read: true }])
  expect(killed).toBeGreaterThanOrEqual(3)
}, 600_000)
