import type { DatabaseOfFile } from '@x/testkit/vitest'
import { afterEach } from 'vitest'
import { type AdvisoryLocker, type AdvisoryLockerOptions, createAdvisoryLocker } from '../../src/index.ts'

/** Lockers of a test file, closed after each test. */
export function useLockers(
  database: DatabaseOfFile,
  defaults: Partial<AdvisoryLockerOptions> = {},
): (options?: Partial<AdvisoryLockerOptions>) => AdvisoryLocker {
  const open: AdvisoryLocker[] = []
  afterEach(async () => {
    await Promise.all(open.splice(0).map((locker) => locker.close()))
  })
  return (options = {}) => {
    const where = 'connection' in options || 'pool' in options ? {} : { connectionString: database.url }
    const locker = createAdvisoryLocker({ fencing: 'none', ...where, ...defaults, ...options })
    open.push(locker)
    return locker
  }
}
