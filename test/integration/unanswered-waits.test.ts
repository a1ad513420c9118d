import { createAdvisoryLocker } from '@x/lock-advisory'
import { acquireMany, createSemaphore, type Locker } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { migrate } from '@x/lock-table/migrations'
import { tcpProxy } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'

/** A wait that ends before the database has answered blames no holder: nobody need have the lock. */
const database = useDatabase({ template: { name: 'locks', prepare: async (pool) => void (await migrate(pool)) } })

const unanswered = {
  code: 'LOCK_TIMEOUT',
  answered: false,
  message: expect.stringContaining('the database had not answered by then, so nobody need have it'),
}
const contended = {
  code: 'LOCK_TIMEOUT',
  answered: true,
  message: expect.stringContaining('another holder or earlier waiters have it'),
}

/** The three ways to wait with a limit. */
const waits: Readonly<Record<string, (locker: Locker, waitTimeoutMs: number) => Promise<unknown>>> = {
  acquire: (locker, waitTimeoutMs) => locker.acquire('report', { waitTimeoutMs }),
  acquireMany: (locker, waitTimeoutMs) => acquireMany(locker, ['report', 'other'], { waitTimeoutMs }),
  semaphore: (locker, waitTimeoutMs) =>
    createSemaphore({ locker, key: 'semaphore', permits: 1 }).acquire({ waitTimeoutMs }),
}

describe.each(Object.entries(waits))('%s', (_, wait) => {
  it('over lock-table, on a pool whose only client is out', async () => {
    const pool = database.pool({ max: 1 })
    await using locker = createTableLocker({ pool, wakeUps: 'poll' })
    const client = await pool.connect()
    await expect(wait(locker, 150)).rejects.toMatchObject(unanswered)
    client.release()
    await locker.ping()
  })

  it('over lock-advisory, on a line that swallows what is sent', async () => {
    await using proxy = await tcpProxy(database.url)
    await using locker = createAdvisoryLocker({ connectionString: proxy.url(database.url), wait: 'poll' })
    await locker.ping()
    proxy.blackHole()
    await expect(wait(locker, 150)).rejects.toMatchObject(unanswered)
    proxy.heal()
    await locker.ping()
  })

  it('blames the holder where there is one', async () => {
    await using table = createTableLocker({ pool: database.pool(), wakeUps: 'poll' })
    await using advisory = createAdvisoryLocker({ connectionString: database.url })
    for (const locker of [table, advisory]) {
      await using _report = await locker.acquire('report')
      await using _permit = await locker.acquire('semaphore/permit/0')
      // On a busy machine no answer may come so soon; who waits longer gets one.
      const errors: unknown[] = []
      for (const waitMs of [150, 1_500, 15_000]) {
        const error: unknown = await wait(locker, waitMs).catch((caught: unknown) => caught)
        errors.push(error)
        if (Reflect.get(Object(error), 'answered') !== false) break
      }
      expect(errors.at(-1)).toMatchObject(contended)
    }
  })
})
