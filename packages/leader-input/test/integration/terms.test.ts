import { createMemoryLocker } from '@x/lock-core/memory'
import { createTableLocker } from '@x/lock-table'
import { migrate as migrateLocks } from '@x/lock-table/migrations'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { collect, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('leads under a locker whose tokens begin below the epochs of the one before, and is fenced by none of its past', async () => {
  const pool = database.pool()
  await migrateLocks(pool)
  await using before = shopInput(pool, { locker: createMemoryLocker() })
  await before.install()
  // As after a hundred terms under a locker without durable tokens.
  await pool.query('UPDATE coordination.cursors SET epoch = (1::bigint << 62)')
  await using locker = createTableLocker({ pool })
  await using input = shopInput(pool, { locker })
  for (const term of [1n, 2n]) {
    const { events, stop } = collect(input)
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('a', 1)")
    await eventually(() => events.length === 1)
    expect(input.health().epoch).toBe((1n << 62n) + term)
    await stop()
  }
})

it('says why it leads no more when its lock is taken away, and leads again', async () => {
  const pool = database.pool()
  const locker = createMemoryLocker()
  const warnings: unknown[] = []
  const logger = { debug: () => {}, info: () => {}, warn: (fields: unknown) => warnings.push(fields), error: () => {} }
  await using input = shopInput(pool, { name: 'robbed', lockKey: 'robbed', locker, logger })
  await input.install()
  const { stop } = collect(input)
  await eventually(() => input.health().status === 'leading')
  await locker.forceRelease('robbed')
  await eventually(() => input.health().epoch === 2n)
  expect(warnings).toContainEqual({
    input: 'robbed',
    err: expect.objectContaining({ code: 'LOCK_LOST', reason: 'forced' }),
  })
  expect(input.health().lastError).toMatchObject({ code: 'LOCK_LOST' })
  await stop()
})

it('on a pool of one with its locker says what is missing, term after term', async () => {
  await migrateLocks(database.pool())
  const pool = database.pool({ max: 1 })
  const warnings: unknown[] = []
  const logger = { debug() {}, info() {}, warn: (...told: unknown[]) => void warnings.push(told), error() {} }
  await using locker = createTableLocker({ pool, wakeUps: 'poll' })
  await using input = shopInput(pool, { name: 'cramped', locker, logger, takeoverMs: 500 })
  await input.install()
  const { stop } = collect(input)
  const noClient = {
    code: 'LOCK_LOST',
    reason: 'deadline',
    message: expect.stringContaining('the pool gave no client'),
  }
  // On a busy machine a lease may be over before an attempt to renew it has failed: then a later term says it.
  await eventually(() => expect(input.health().lastError).toMatchObject(noClient) ?? true)
  expect(warnings).toContainEqual([
    { input: 'cramped', err: expect.objectContaining(noClient) },
    'the lock was lost, and the lead with it; a locker on the same pool needs a client for its renewals: give it a max of 3 or more',
  ])
  await stop()
})
