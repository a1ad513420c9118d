import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import type { LeaderInputOptions } from '../../src/index.ts'
import { collect, type Shop, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it.each<[string, Partial<LeaderInputOptions<Shop>>, Partial<LeaderInputOptions<Shop>>, string[]]>([
  [
    'a table',
    { tables: ['orders'] },
    { tables: ['orders', 'notes'] },
    ['create orders', 'update orders', 'create notes'],
  ],
  [
    'a table with a backfill',
    { tables: ['orders'], backfill: true },
    { tables: ['orders', 'notes'], backfill: true },
    ['create orders', 'update orders', 'create notes', 'read notes', 'read notes'],
  ],
  [
    'an operation',
    { tables: ['orders'], operations: ['create'] },
    { tables: ['orders'], operations: ['create', 'update'] },
    ['create orders', 'update orders'],
  ],
])('loses nothing of %s that a newer replica adds while an older one leads', async (_, older, newer, expected) => {
  const pool = database.pool()
  const name = `deploy ${expected}`
  const locker = createMemoryLocker()
  await pool.query("TRUNCATE orders, notes; INSERT INTO notes VALUES ('before')")
  await using old = shopInput(pool, { name, locker, ...older })
  await old.install()
  const before = collect(old)
  await eventually(() => old.health().status === 'leading')
  await using young = shopInput(pool, { name, locker, ...newer })
  await young.install()
  await pool.query(
    `INSERT INTO orders VALUES (1, 'c', 1); UPDATE orders SET cents = 2; INSERT INTO notes VALUES ('after')`,
  )
  // Whatever it leads once more, it steps aside; nobody else wants to lead yet.
  await eventually(() => old.health().status === 'standby' && old.health().lastError !== null)
  expect(old.health().lastError).toMatchObject({ code: 'FENCED' })
  const after = collect(young)
  const seen = (): string[] =>
    [...before.events, ...after.events].map(({ operation, table }) => `${operation} ${table}`)
  await eventually(() => seen().length >= expected.length)
  expect(seen().sort()).toEqual(expected.sort())
  await before.stop()
  await after.stop()
})
