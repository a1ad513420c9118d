import { startRedis } from '@x/testkit'
import { Redis } from 'ioredis'
import Redlock from 'redlock'
import { NotAvailable } from '../benchmark.ts'
import { pinToServerCore } from '../surroundings.ts'
import type { OpenPairMaker } from './pair.ts'

/** npm `redlock` on one local Redis without persistence, which shares a core with Postgres and not with the client. */
export const redlock: OpenPairMaker = async () => {
  const server = await startRedis().catch((error: unknown) => {
    throw new NotAvailable(error instanceof Error ? error.message : String(error))
  })
  const redis = new Redis(server.url)
  const [, pid] = /process_id:(\d+)/.exec(await redis.info('server')) ?? []
  if (pid !== undefined) pinToServerCore(pid)
  const locks = new Redlock([redis], { retryCount: 0 })
  return {
    async pair(key) {
      const lock = await locks.lock(key, 30_000)
      await lock.unlock()
    },
    async close() {
      redis.disconnect()
      await server.stop()
    },
  }
}
