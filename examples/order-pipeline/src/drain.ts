import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import { z } from 'zod'

/** Longer than any takeover, also on a machine with too much to do: a feed that stands still for this long will not go on. */
const standstillMs = 30_000
/** The same for a leader that says that nothing is left for it to handle. */
const idleMs = 3_000
const counted = z.object({
  changes: z.coerce.number(),
  effects: z.coerce.number(),
  /** Of the second input; it may be that not even one was deployed. */
  indexed: z.coerce.number(),
  unindexed: z.coerce.number(),
})
const countSql = `
  SELECT (SELECT count(*) FROM journal) AS changes,
         (SELECT count(*) FROM effects) AS effects,
         (SELECT count(*) FROM index_effects) AS indexed,
         (SELECT count(*) FROM orders o FULL JOIN order_index i ON i.order_id = o.id
          WHERE (o.customer, o.cents) IS DISTINCT FROM (i.customer, i.cents)) AS unindexed`

/**
 * Waits until there are as many effects as changes, and the index is as the orders are; the load must have ended. Resolves
 * to false when both feeds stand still before that, which is for the audit to judge.
 *
 * @param caughtUp whether the leader of the first input says that it has handled everything
 */
export const drain = async (pool: Pool, caughtUp: () => boolean, signal: AbortSignal): Promise<boolean> => {
  let last = ''
  let movedAt = performance.now()
  for (;;) {
    const { rows } = await pool.query(countSql)
    const { changes, effects, indexed, unindexed } = counted.parse(rows[0])
    if (effects >= changes && unindexed === 0) return true
    if (`${effects} ${indexed}` !== last) movedAt = performance.now()
    last = `${effects} ${indexed}`
    if (performance.now() - movedAt > (unindexed === 0 && caughtUp() ? idleMs : standstillMs)) return false
    await delay(50, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}
