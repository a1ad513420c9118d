import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('does not wait for the batch of a leader, which may stand still: a replica that starts is the one to take over', async () => {
  const pool = database.pool()
  await using first = shopInput(pool)
  await first.install()
  const leader = await database.client()
  await leader.query(`BEGIN; UPDATE coordination.cursors SET epoch = epoch + 1 WHERE name = 'test'`)
  await using second = shopInput(database.pool({ options: '-c statement_timeout=15s' }))
  expect((await second.install()).unchanged).toContain('cursor test')
  await leader.query('ROLLBACK')
  await leader.end()
})
