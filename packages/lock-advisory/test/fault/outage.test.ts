import { monotonicNow } from '@x/lock-core/adapter'
import { eventually, tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database)
const keys = Array.from({ length: 200 }, (_, index) => `key ${index}`)

it(`${keys.length} waiters look for a server that is away as one, and all of them go on when it is back`, async () => {
  await using proxy = await tcpProxy(database.url)
  const holder = createLocker()
  const held = await holder.tryAcquireMany(keys)
  const attempts: number[] = []
  const locker = createLocker({
    // Without a listener, which connects by itself.
    wait: 'poll',
    pollMs: 50,
    connection: () => {
      attempts.push(monotonicNow())
      return { connectionString: proxy.url(database.url) }
    },
  })
  const waiters = Promise.all(keys.map((key) => locker.acquire(key)))
  waiters.catch(() => {})
  await eventually(async () => (await holder.status('key 199')).waiters === 1)
  attempts.length = 0
  proxy.refuse()
  proxy.cut()
  await eventually(() => attempts.length >= 4)
  // The n-th pause is 50 to 100 ms times two to the n: however slow the machine is, not less.
  const pauses = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0))
  for (const [index, pauseMs] of pauses.entries()) expect(pauseMs).toBeGreaterThan(50 * 2 ** (index + 1) - 1)
  proxy.heal()
  await Promise.all((held ?? []).map((lock) => lock.release()))
  await Promise.all((await waiters).map((lock) => lock.release()))
})

it.each(['notify', 'server', 'poll'] as const)(
  'a wait (%s) ends with what no waiting heals, such as a password that was changed: nobody else would tell',
  async (wait) => {
    await using proxy = await tcpProxy(database.url)
    const holder = createLocker()
    const held = await holder.acquire('key')
    const changed = new URL(proxy.url(database.url))
    changed.username = 'nobody-of-this-name'
    let url = proxy.url(database.url)
    const locker = createLocker({ wait, pollMs: 50, connection: () => ({ connectionString: url }) })
    const waits = [locker.acquire('key'), locker.acquire('key', { waitTimeoutMs: 60_000 })].map((waiting) =>
      waiting.then(
        () => null,
        (error: unknown) => error,
      ),
    )
    await eventually(async () => (await holder.status('key')).waiters >= 1)
    url = changed.href
    proxy.cut()
    for (const waiting of waits) expect(await waiting).toMatchObject({ code: 'CONNECTION', retryable: false })
    await held.release()
  },
)
