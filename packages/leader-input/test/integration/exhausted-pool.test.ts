import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { afterEach, expect, it, vi } from 'vitest'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
afterEach(() => {
  vi.useRealTimers()
})

it('says so after 20 s when the pool has no client for it, and leads as soon as there is one', async () => {
  const pool = database.pool({ max: 1 })
  const locker = createMemoryLocker()
  const input = shopInput(pool, { locker })
  await input.install()
  const taken = await pool.connect()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const running = input.run(() => {})
  await vi.advanceTimersByTimeAsync(19_900)
  expect(input.health()).toMatchObject({ status: 'standby', lastError: null })
  await vi.advanceTimersByTimeAsync(200)
  expect(input.health().lastError).toMatchObject({ code: 'CONNECTION', message: expect.stringContaining('its max') })
  vi.useRealTimers()
  taken.release()
  await eventually(() => input.health().status === 'leading')
  await input.close()
  await running
})
