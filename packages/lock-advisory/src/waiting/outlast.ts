import { hasErrorCode } from '@x/lock-core'
import type { WaitLimit } from '@x/lock-core/adapter'
import type { Alarm } from './alarm.ts'
import type { Outage } from './outage.ts'

/** Whether it may end by waiting. A password that was changed stays wrong: who waits is told, because nobody else would be. */
export function isOutage(error: unknown): boolean {
  return hasErrorCode(error, 'CONNECTION') && error.retryable
}

/**
 * Runs `attempt` again for as long as the database cannot be reached and the limit allows it: who waits goes on waiting
 * through a restart of the server. Null when the limit is over.
 * @param attempt says `outage.end()` when it has a session
 */
export async function outlast<T>(
  limit: WaitLimit,
  alarm: Alarm,
  outage: Outage,
  attempt: () => Promise<T>,
): Promise<T | null> {
  while (limit.over() === undefined) {
    const pauseMs = outage.pauseMs()
    if (pauseMs > 0) {
      alarm.clear()
      await alarm.sleep(pauseMs)
      continue
    }
    try {
      return await attempt()
    } catch (error) {
      if (!isOutage(error) && !hasErrorCode(error, 'CLOSED')) throw error
      outage.failed()
    }
  }
  return null
}
