import { useDatabase } from '@x/testkit/vitest'
import { beforeAll, expect, test } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const callers = Array.from({ length: 12 }, (_, place) => place)

beforeAll(async () => {
  // Statements that have to be run again make the way into the line long enough for the key to become free on it.
  await database.pool().query(`ALTER DATABASE "${database.name}" SET default_transaction_isolation = 'serializable'`)
})

// A caller that found the key free on its way into the line used to ask again behind those who came after it: in about one
// of ten of these rounds.
test('callers are served in the order in which they came, also those who come while the key is given back', async () => {
  await using locker = createTableLocker({ connectionString: database.url, pollMs: 50 })
  for (let round = 0; round < 60; round += 1) {
    const key = `round-${round}`
    const holder = await locker.acquire(key)
    const served: number[] = []
    const waits = callers.map(async (place) => {
      const lock = await locker.acquire(key)
      served.push(place)
      await lock.release()
    })
    while ((await locker.status(key)).waiters === 0);
    await holder.release()
    await Promise.all(waits)
    expect(served).toEqual(callers)
  }
})
