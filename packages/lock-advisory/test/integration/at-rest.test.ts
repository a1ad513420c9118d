import { backendsNamed, eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import type { AdvisoryLocker } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database)

it.each<[string, (locker: AdvisoryLocker) => Promise<unknown>]>([
  ['tryAcquire', (locker) => locker.tryAcquire('key')],
  ['tryAcquire with a signal', (locker) => locker.tryAcquire('key', { signal: new AbortController().signal })],
  [
    'tryAcquireMany with a signal',
    (locker) => locker.tryAcquireMany(['key', 'other'], { signal: new AbortController().signal }),
  ],
  ['acquire without patience', (locker) => locker.acquire('key', { waitTimeoutMs: 0 }).catch(() => null)],
  ['acquire with a little', (locker) => locker.acquire('key', { waitTimeoutMs: 20 }).catch(() => null)],
])('a connection through which nothing was got is closed after idleMs (%s)', async (call, attempt) => {
  await using _held = await createLocker().acquire('key')
  const applicationName = `in vain: ${call}`
  const locker = createLocker({ applicationName, idleMs: 50, wait: 'poll' })
  expect(await attempt(locker)).toBe(null)
  await eventually(async () => (await backendsNamed(database.pool(), applicationName)).length === 0)
})
