import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createAdvisoryLocker } from '@x/lock-advisory'
import type { Lock } from '@x/lock-core'
import { Client } from 'pg'
import type { Contender } from './benchmark.ts'
import { contender } from './contender.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const usedHeap = (): number => {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().heapUsed
}

const applicationName = 'bench-held-locks'

/** What `count` locks held at once cost: heap for each, and connections in all. */
export const heldLocks = (count: number): Contender =>
  contender({
    async open({ url }) {
      const observer = new Client({ connectionString: url })
      await observer.connect()
      return { observer, locker: createAdvisoryLocker({ connectionString: url, fencing: 'none', applicationName }) }
    },
    async round({ observer, locker }) {
      const keys = Array.from({ length: count }, (_, index) => `held/${index}`)
      // One grant and release first, so that the session and its statements are not counted as a lock's.
      await (await locker.acquire('held/warm-up')).release()
      const before = usedHeap()
      const locks: Lock[] = await Promise.all(keys.map((key) => locker.acquire(key)))
      const after = usedHeap()
      const { rows } = await observer.query<{ connections: number }>({
        text: 'SELECT count(*)::int AS connections FROM pg_stat_activity WHERE application_name = $1',
        values: [applicationName],
      })
      await Promise.all(locks.map((lock) => lock.release()))
      return { heapBytesPerLock: (after - before) / count, connections: rows[0]?.connections ?? Number.NaN }
    },
    async close({ observer, locker }) {
      await locker.close()
      await observer.end()
    },
  })
