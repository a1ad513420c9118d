import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { hasErrorCode, type Lock } from '@x/lock-core'
import { eventually, randomSource } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database, { pollMs: 20 })
const acquires = 10_000
const seed = Number(process.env.COORDINATION_SEED ?? Math.floor(Math.random() * 2 ** 31))

it.each(['notify', 'server', 'poll'] as const)(
  `${acquires} acquires that give up at a bad moment leave nothing held, and nobody holds what he was told he does not (%s, seed ${seed})`,
  async (wait) => {
    const random = randomSource(seed)
    const lockers = [createLocker({ wait }), createLocker({ wait })]
    const keys = ['a', 'b', 'c', 'd', 'e']
    const owners = new Map<string, Lock>()
    let [granted, gaveUp, started] = [0, 0, 0]
    const reason = new Error('enough')

    const one = async (): Promise<void> => {
      const locker = lockers[random.int(0, lockers.length - 1)]
      const key = keys[random.int(0, keys.length - 1)] ?? 'a'
      const controller = new AbortController()
      // Moments from "before the statement leaves" to "while the answer is on its way" to "long after".
      const patienceMs = random.int(0, 6)
      const byTimeout = random.int(0, 1) === 0
      const wanted = locker?.acquire(key, byTimeout ? { waitTimeoutMs: patienceMs } : { signal: controller.signal })
      if (!byTimeout) {
        const abort = (): void => controller.abort(reason)
        if (patienceMs === 0) queueMicrotask(abort)
        else if (patienceMs === 1) void nextTurn().then(abort)
        else void sleep(patienceMs - 1).then(abort)
      }
      try {
        const lock = await wanted
        if (lock === undefined) return
        granted += 1
        expect(owners.has(key), `${key} has two owners`).toBe(false)
        owners.set(key, lock)
        if (random.int(0, 3) === 0) await sleep(random.int(0, 3))
        owners.delete(key)
        await lock.release()
      } catch (error) {
        if (error !== reason && !hasErrorCode(error, 'LOCK_TIMEOUT')) throw error
        gaveUp += 1
      }
    }
    const worker = async (): Promise<void> => {
      while (started < acquires) {
        started += 1
        await one()
      }
    }
    await Promise.all(Array.from({ length: 24 }, worker))
    expect(granted + gaveUp).toBe(acquires)
    expect(granted).toBeGreaterThan(0)
    expect(gaveUp).toBeGreaterThan(0)

    const admin = await database.client()
    await eventually(async () => {
      const { rows } = await admin.query(
        `SELECT objid, objsubid, mode, granted FROM pg_locks
          WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      )
      return rows.length === 0
    })
    await admin.end()
    const fresh = createLocker()
    for (const key of keys) await (await fresh.acquire(key, { waitTimeoutMs: 0 })).release()
  },
)
