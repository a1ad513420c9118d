import { type AdvisoryLockerOptions, createAdvisoryLocker } from '@x/lock-advisory'
import type { OpenPairMaker } from './pair.ts'

/** `@x/lock-advisory` as a user calls it. */
export const ourAdvisory =
  (options: Omit<AdvisoryLockerOptions, 'connectionString'> = {}): OpenPairMaker =>
  async ({ url }) => {
    const locker = createAdvisoryLocker({ connectionString: url, ...options })
    return {
      async pair(key) {
        const lock = await locker.acquire(key)
        await lock.release()
      },
      close: () => locker.close(),
    }
  }
