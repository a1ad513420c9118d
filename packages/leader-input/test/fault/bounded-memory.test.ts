import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually, Hopeless, spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { itemsInput } from '../support/evidence.ts'
import { workloadTemplate } from '../support/workload.ts'

const database = useDatabase({ template: workloadTemplate })

const long = process.env.COORDINATION_LONG === '1'
const [rows, width] = long ? [1_000_000, 500] : [8_000, 12_000]
/** The rows do not fit into it by far: whoever kept them all would be ended by the engine. */
const heapMb = 72

it(
  `handles one transaction of ${rows} rows in a process with a heap of ${heapMb} MB`,
  async () => {
    const pool = database.pool()
    await using input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    await pool.query(`INSERT INTO items SELECT n, n, repeat('x', ${width}) FROM generate_series(1, ${rows}) n`)
    await using replica = await spawnNode(new URL('../support/replica.ts', import.meta.url), {
      messages: z.unknown(),
      args: [database.url, 'everyone', 'small', 'large-items'],
      env: { NODE_OPTIONS: `--max-old-space-size=${heapMb}` },
    })
    await eventually(
      async () => {
        if (!replica.isRunning) throw new Hopeless(`the process has ended: ${replica.output()}`)
        return (await pool.query('SELECT count(*)::int AS n FROM effects')).rows[0].n === rows
      },
      { deadlineMs: long ? 1_500_000 : 300_000, everyMs: 200, what: 'every row to be handled' },
    )
    const { rowCount } = await pool.query(
      'SELECT FROM (SELECT item, lag(item) OVER (ORDER BY n) AS before FROM effects) e WHERE item <> before + 1',
    )
    expect(rowCount).toBe(0)
  },
  long ? 1_800_000 : 600_000,
)
