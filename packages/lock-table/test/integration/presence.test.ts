import { useDatabase } from '@x/testkit/vitest'
import { expect, it, vi } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

/** The clock of the parts that wait; that of the leases goes on as it is. */
const clock = vi.hoisted(() => ({ laterMs: 0 }))
vi.mock('@x/lock-core/adapter', async (original) => {
  const real = await original<typeof import('@x/lock-core/adapter')>()
  return { ...real, monotonicNow: () => real.monotonicNow() + clock.laterMs }
})

it('a process that has not waited for long says again that it lives, before it enters a line', async () => {
  const pollMs = 600_000
  await using holder = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs, ttlMs: 86_400_000 })
  await using locker = createTableLocker({ connectionString: database.url, wakeUps: 'poll', pollMs })
  await using _ = await holder.acquire('long')
  for (const time of ['first', 'again']) {
    const over = new AbortController()
    const waiting = expect(locker.acquire('long', { signal: over.signal })).rejects.toThrow(time)
    // Those of dead sessions do not count.
    await expect.poll(async () => (await holder.status('long')).waiters).toBe(1)
    over.abort(new Error(time))
    await waiting
    // It lives for five polls.
    clock.laterMs = 5 * pollMs
    await database.pool().query(`UPDATE coordination.lock_sessions SET expires_at = now() - interval '1 second'`)
  }
})
