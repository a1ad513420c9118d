import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import { z } from 'zod'

/** Longer than any takeover, also on a machine with too much to do: a feed that stands still for this long will not go on. */
const standstillMs = 30_000
/** The same for a leader that says that nothing is left for it to handle. */
const idleMs = 3_000
const counted = z.object({ changes: z.coerce.number(), effects: z.coerce.number() })

/**
 * Waits until there are as many effects as changes; the load must have ended. Resolves to false when the feed stands
 * still before that, which is for the audit to judge.
 *
 * @param caughtUp whether the leader says that it has handled everything
 */
export const drain = async (pool: Pool, caughtUp: () => boolean, signal: AbortSignal): Promise<boolean> => {
  let last = -1
  let movedAt = performance.now()
  for (;;) {
    const { rows } = await pool.query(
      'SELECT (SELECT count(*) FROM journal) AS changes, (SELECT count(*) FROM effects) AS effects',
    )
    const { changes, effects } = counted.parse(rows[0])
    if (effects >= changes) return true
    if (effects !== last) movedAt = performance.now()
    last = effects
    if (performance.now() - movedAt > (caughtUp() ? idleMs : standstillMs)) return false
    await delay(50, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}
