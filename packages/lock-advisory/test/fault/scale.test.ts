import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startPrivatePostgres } from '@x/testkit'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { createAdvisoryLocker } from '../../src/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: unknown = runInNewContext('gc')

/** What is in use when everything that could be collected is. */
async function heapInUse(): Promise<number> {
  await nextTurn()
  if (typeof collectGarbage !== 'function') throw new TypeError('expected gc() to be exposed')
  collectGarbage()
  return process.memoryUsage().heapUsed
}

const operations = 1_000_000
const heldAtOnce = 10_000
const distinct = 50_000

it(`${operations} operations on ${distinct} keys, ${heldAtOnce} of them held: nothing grows`, async () => {
  await using server = await startPrivatePostgres({ settings: { max_locks_per_transaction: 256 } })
  const admin = new Client({ connectionString: server.url })
  admin.on('error', () => {})
  await admin.connect()
  const locker = createAdvisoryLocker({
    connectionString: server.url,
    applicationName: 'scale',
    fencing: 'none',
    detectMs: 60_000,
  })
  const before = await heapInUse()
  const held = await Promise.all(Array.from({ length: heldAtOnce }, (_, index) => locker.acquire(`held ${index}`)))
  const backends = async (): Promise<unknown> =>
    (await admin.query(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'scale'`)).rows[0]?.n
  const locks = async (): Promise<unknown> =>
    (await admin.query(`SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory'`)).rows[0]?.n
  expect(await backends()).toBe(1)
  expect(await locks()).toBe(heldAtOnce)
  expect(((await heapInUse()) - before) / heldAtOnce).toBeLessThan(1_024)

  const batch = 1_000
  let next = 0
  const heap: number[] = []
  for (let done = 0; done < operations; done += 2 * batch) {
    const mine = await Promise.all(
      Array.from({ length: batch }, () => {
        next = (next + 1) % distinct
        return locker.acquire(`key ${next}`)
      }),
    )
    await Promise.all(mine.map((lock) => lock.release()))
    if (done % (operations / 10) < 2 * batch) {
      heap.push(await heapInUse())
    }
  }
  expect(await backends()).toBe(1)
  expect(await locks()).toBe(heldAtOnce)
  expect(held.every((lock) => lock.isHeld())).toBe(true)
  const [early = 0, late = 0] = [Math.min(...heap.slice(0, 5)), Math.min(...heap.slice(5))]
  expect(late - early).toBeLessThan(2 * 2 ** 20)
  await Promise.all(held.map((lock) => lock.release()))
  expect(await locks()).toBe(0)
  await locker.close()
  await admin.end()
})
