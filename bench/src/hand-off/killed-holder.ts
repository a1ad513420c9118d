import { createAdvisoryLocker } from '@x/lock-advisory'
import { eventually, spawnNode } from '@x/testkit'
import { z } from 'zod'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'

const kills = 3

/** From the SIGKILL of a holder's process to the grant of one who waits in another. */
export const killedHolder = (wait: 'server' | 'notify'): Contender =>
  contender({
    async open({ url }) {
      return { url, locker: createAdvisoryLocker({ connectionString: url, wait, fencing: 'none' }) }
    },
    async round({ url, locker }) {
      const tookMs: number[] = []
      for (let kill = 0; kill < kills; kill += 1) {
        const key = `killed/${kill}/${Math.random()}`
        await using holder = await spawnNode(new URL('./holder.ts', import.meta.url), {
          messages: z.object({ kind: z.string() }),
          args: [url, key],
        })
        await holder.message(({ kind }) => kind === 'held', 30_000)
        const waiter = locker.acquire(key)
        await eventually(async () => (await locker.status(key)).waiters === 1)
        const startedAt = performance.now()
        void holder.kill('SIGKILL')
        const lock = await waiter
        tookMs.push(performance.now() - startedAt)
        await lock.release()
      }
      tookMs.sort((a, b) => a - b)
      return { p50Ms: tookMs[Math.floor(tookMs.length / 2)] ?? Number.NaN, worstMs: tookMs.at(-1) ?? Number.NaN }
    },
    async close({ locker }) {
      await locker.close()
    },
  })
