import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startPrivatePostgres } from '@x/testkit'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { createAdvisoryLocker } from '../../src/index.ts'
import { countingLine } from '../support/counting-line.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: unknown = runInNewContext('gc')

/** What is in use when everything that could be collected is. */
async function heapInUse(): Promise<number> {
  await nextTurn()
  if (typeof collectGarbage !== 'function') throw new TypeError('expected gc() to be exposed')
  collectGarbage()
  return process.memoryUsage().heapUsed
}

/** By count; with COORDINATION_LONG=1 by time, and then at least as many. */
const operations = 1_000_000
const forMs = process.env.COORDINATION_LONG === '1' ? 600_000 : 0
const heldAtOnce = 10_000
const distinct = 50_000

const name = forMs === 0 ? `${operations} operations` : `operations for ${forMs / 60_000} minutes`
it(
  `${name} on ${distinct} keys, and ${heldAtOnce} held: nothing grows`,
  async () => {
    await using server = await startPrivatePostgres({ settings: { max_locks_per_transaction: 256 } })
    const admin = new Client({ connectionString: server.url })
    admin.on('error', () => {})
    await admin.connect()
    await using line = await countingLine(server.port)
    const locker = createAdvisoryLocker({
      connectionString: line.url(server.url),
      applicationName: 'scale',
      fencing: 'none',
      detectMs: 60_000,
    })
    const before = await heapInUse()
    const held = await Promise.all(Array.from({ length: heldAtOnce }, (_, index) => locker.acquire(`held ${index}`)))
    const backends = async (): Promise<unknown> =>
      (
        await admin.query(
          `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'scale'`,
        )
      ).rows[0]?.n
    const locks = async (): Promise<unknown> =>
      (
        await admin.query(`SELECT count(*)::int AS n FROM pg_locks JOIN pg_database d ON d.oid = database
          WHERE locktype = 'advisory' AND datname = current_database()`)
      ).rows[0]?.n
    expect(await backends()).toBe(1)
    expect(await locks()).toBe(heldAtOnce)
    expect(((await heapInUse()) - before) / heldAtOnce).toBeLessThan(1_024)

    // One connection; each statement is prepared once, whatever the number of keys.
    const prepared = async (): Promise<Record<string, number>> => {
      await (await locker.acquire('one')).release()
      // Of three at least two go out together.
      const three = await Promise.all(['one', 'two', 'three'].map((key) => locker.acquire(key)))
      await Promise.all(three.map((lock) => lock.release()))
      expect(line.connections).toBe(1)
      return line.prepared
    }
    const preparedAtFirst = await prepared()
    expect(preparedAtFirst).toMatchObject({
      advisory_acquire: 1,
      advisory_acquire_one: 1,
      advisory_release: 1,
      advisory_release_one: 1,
    })

    const batch = 1_000
    const startedAt = performance.now()
    let [next, done, looks] = [0, 0, 0]
    const heap: number[] = []
    /** How much of it is over, from 0 to 1. */
    const progress = (): number =>
      Math.min(done / operations, forMs === 0 ? 1 : (performance.now() - startedAt) / forMs)
    while (progress() < 1) {
      const mine = await Promise.all(
        Array.from({ length: batch }, () => {
          next = (next + 1) % distinct
          return locker.acquire(`key ${next}`)
        }),
      )
      await Promise.all(mine.map((lock) => lock.release()))
      done += 2 * batch
      if (progress() >= (looks + 1) / 10) {
        looks += 1
        heap.push(await heapInUse())
      }
    }
    expect(done).toBeGreaterThanOrEqual(operations)
    expect(heap).toHaveLength(10)
    expect(await prepared()).toEqual(preparedAtFirst)
    expect(await backends()).toBe(1)
    expect(await locks()).toBe(heldAtOnce)
    expect(held.every((lock) => lock.isHeld())).toBe(true)
    const [early = 0, late = 0] = [Math.min(...heap.slice(0, 5)), Math.min(...heap.slice(5))]
    expect(late - early).toBeLessThan(2 * 2 ** 20)
    await Promise.all(held.map((lock) => lock.release()))
    expect(await locks()).toBe(0)
    await locker.close()
    await admin.end()
  },
  forMs + 120_000,
)
