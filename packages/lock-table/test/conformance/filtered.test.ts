import { useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { declareConformance } from '../support/conformance.ts'
import { type FilterProxy, filterProxy } from '../support/filter-proxy.ts'
import { lockTable } from '../support/template.ts'

/** A server without LISTEN, NOTIFY, advisory locks, pg_walfile_name, and without the functions of our migration. */
const database = useDatabase({ template: lockTable })
let proxy: FilterProxy

beforeAll(async () => {
  proxy = await filterProxy(database.url)
  await database
    .pool()
    .query('DROP FUNCTION coordination.lock_renew, coordination.lock_renew_shares, coordination.lock_hand_off')
})
afterAll(() => proxy[Symbol.asyncDispose]())

declareConformance('table, on a server that lacks much', {
  url: () => database.url,
  options: () => ({ connectionString: proxy.url(database.url), pollMs: 50 }),
  schedules: 5,
})

// Without LISTEN everybody polls; what is different here is that nobody asks for it.
describe.runIf(process.env.COORDINATION_LONG === '1')('COORDINATION_LONG=1', () => {
  declareConformance('table, on a server that lacks much, poll', {
    url: () => database.url,
    options: () => ({ connectionString: proxy.url(database.url), wakeUps: 'poll', pollMs: 50 }),
    schedules: 5,
  })
})

it('waiters poll where LISTEN is refused', async () => {
  const before = proxy.refused
  const options = { connectionString: proxy.url(database.url), pollMs: 50 }
  await using one = createTableLocker(options)
  await using other = createTableLocker(options)
  const lock = await one.acquire('polled')
  const waiting = other.acquire('polled')
  await expect.poll(() => proxy.refused).toBeGreaterThan(before)
  await lock.release()
  await (await waiting).release()
})
