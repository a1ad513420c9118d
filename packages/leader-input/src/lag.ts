import { quoteIdentifier, type Statement } from '@x/pg-session'
import type { Connection } from './connections.ts'
import { notInstalled } from './leadership.ts'
import { hidden } from './log/statements.ts'

/** How far an input is behind, measured against the log by whoever asks: a dead feed does not look healthy. */
export interface Lag {
  /** How capture differs from what the options want; empty when all is well. */
  readonly drift: readonly string[]
  /** Age of the oldest change that is committed and not handled, in milliseconds; 0 when there is none. */
  readonly oldestMs: number
  /** Changes committed and not handled. */
  readonly events: number
  /** There are more; counting them all would take too long. */
  readonly eventsIsLowerBound: boolean
  /** For how long the window has been worked at that takes several batches, in milliseconds; 0 between windows. */
  readonly windowAgeMs: number
  /** Backend of the oldest transaction that has written to the log and is still open. */
  readonly oldestWriterPid: number | null
  readonly logBytes: number
  /** Keys that parked events hold back. */
  readonly parkedKeys: number
  /** Changes dropped over the retention cap and not acknowledged by a seek. */
  readonly gap: { readonly fromSeq: bigint; readonly toSeq: bigint } | null
}

const countedUpTo = 10_000

export function lagStatement(schema: string): Statement {
  const at = quoteIdentifier(schema)
  const followed = `EXISTS (SELECT FROM ${at}.inputs i WHERE i.name = $1 AND i.relation = l.source[0] AND l.operation = ANY (i.operations))
                AND NOT l.xid = ANY (c.own_xids) AND l.lineage = c.lineage`
  // By transaction, and what else is asked kept away from the planner, as for the pages of a window: it would read the whole
  // log to count a few of it, and sort it.
  const most = hidden(`${countedUpTo + 1}`)
  const unhandled = `NOT (c.snap_next IS NOT NULL AND l.seq <= c.last_seq AND pg_visible_in_snapshot(l.xid, c.snap_next))`
  return {
    name: 'input_lag',
    text: `
      SELECT behind.events::text, coalesce(extract(epoch FROM clock_timestamp() - behind.oldest) * 1000, 0)::float8::text,
             CASE WHEN c.snap_next IS NULL THEN '0' ELSE (extract(epoch FROM clock_timestamp() - c.moved_at) * 1000)::float8::text END,
             (SELECT a.pid FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
               WHERE k.locktype = 'relation' AND k.relation = '${at.replaceAll("'", "''")}.changes'::regclass AND k.mode = 'RowExclusiveLock'
                 AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               ORDER BY a.xact_start LIMIT 1),
             (SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree('${at.replaceAll("'", "''")}.changes'::regclass) t)::text,
             (SELECT count(DISTINCT (p.relation, p.key::text)) FROM ${at}.parked_changes p WHERE p.input = $1)::text,
             c.gap_from::text, c.gap_to::text
        FROM ${at}.cursors c
        CROSS JOIN LATERAL (
          SELECT count(*) AS events, min(at) AS oldest FROM (
            (SELECT l.at FROM ${at}.changes l
              WHERE l.xid >= pg_snapshot_xmax(c.snap_prev)::text::xid8 AND coalesce(l.seq > c.lo AND ${unhandled} AND ${followed}, false)
              ORDER BY l.xid, l.seq LIMIT ${most})
            UNION ALL
            (SELECT l.at FROM pg_snapshot_xip(c.snap_prev) AS late (xid), LATERAL (
                SELECT l.at FROM ${at}.changes l
                 WHERE l.xid BETWEEN late.xid AND late.xid AND coalesce(${unhandled} AND ${followed}, false)
                 ORDER BY l.xid, l.seq LIMIT ${most}) l LIMIT ${most})
          ) u
        ) behind
       WHERE c.name = $1`,
  }
}

export async function readLag(
  connection: Connection,
  statement: Statement,
  name: string,
  drift: readonly string[],
): Promise<Lag> {
  const [row] = await connection.rows(statement, [name])
  if (row === undefined) throw notInstalled(name)
  const [events, oldestMs, windowAgeMs, pid, logBytes, parkedKeys, gapFrom, gapTo] = row as (string | null)[]
  return {
    drift,
    oldestMs: Math.max(0, Number(oldestMs)),
    events: Math.min(Number(events), countedUpTo),
    eventsIsLowerBound: Number(events) > countedUpTo,
    windowAgeMs: Math.max(0, Number(windowAgeMs)),
    oldestWriterPid: pid == null ? null : Number(pid),
    logBytes: Number(logBytes),
    parkedKeys: Number(parkedKeys),
    gap: gapFrom == null ? null : { fromSeq: BigInt(gapFrom), toSeq: BigInt(gapTo ?? gapFrom) },
  }
}
