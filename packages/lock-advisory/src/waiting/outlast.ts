import { hasErrorCode } from '@x/lock-core'
import type { WaitLimit } from '@x/lock-core/adapter'
import type { Alarm } from './alarm.ts'

const longestBackoffMs = 5_000

/**
 * Runs `attempt` again for as long as the database cannot be reached and the limit allows it: who waits goes on waiting
 * through a restart of the server. Null when the limit is over.
 * @param attempt calls `reached` when it has a session, so that the next failure is the first one again
 */
export async function outlast<T>(
  limit: WaitLimit,
  alarm: Alarm,
  attempt: (reached: () => void) => Promise<T>,
): Promise<T | null> {
  let failures = 0
  while (limit.over() === undefined) {
    try {
      return await attempt(() => {
        failures = 0
      })
    } catch (error) {
      if (!hasErrorCode(error, 'CONNECTION') && !hasErrorCode(error, 'CLOSED')) throw error
      if (limit.over() !== undefined) break
      failures += 1
      alarm.clear()
      await alarm.sleep(Math.min(50 * 2 ** failures, longestBackoffMs) * (0.5 + Math.random() / 2))
    }
  }
  return null
}
