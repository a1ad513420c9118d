import { quoteIdentifier, type Statement } from '@x/pg-session'
import { currentLineage, drawn, hidden } from './statements.ts'

/** Number of children of the log, and of sequence numbers in a block, as powers of two; see the migration. */
const blocks = 16
export const blockBits = 20n

/** The statements that keep the log small. */
export interface UpkeepStatements {
  /** Block that is being filled, and the oldest transaction that a cursor has not seen the end of. */
  readonly pruneState: Statement
  /** Highest number in each child; null where it is empty. */
  readonly highest: Statement
  /** In a transaction, without waiting: whoever waits for this lock holds up every capture behind it. */
  lockChild(child: number): string
  highestOf(child: number): Statement
  truncateChild(child: number): string
  /** Inputs that may not leave all they like in the log. */
  readonly capped: Statement
  /** A row when the input has left more in the log than it may. Parameters: name. */
  readonly overdue: Statement
  /** Gives up on what an input has not handled. Parameters: name, the new lo. */
  readonly giveUp: Statement
}

export function upkeepStatements(schema: string): UpkeepStatements {
  const at = quoteIdentifier(schema)
  const child = (n: number): string => `${at}.changes_${n}`
  const isUnhandled = `coalesce(NOT pg_visible_in_snapshot(l.xid, c.snap_prev) AND l.lineage = c.lineage
                AND NOT (c.snap_next IS NOT NULL AND l.seq <= c.last_seq AND pg_visible_in_snapshot(l.xid, c.snap_next))
                AND EXISTS (SELECT FROM ${at}.inputs i WHERE i.name = c.name AND i.relation = l.source[0] AND l.operation = ANY (i.operations)), false)`
  // Limits hidden, and each late transaction looked up by itself: the planner would else read, and sort, the whole log.
  const unhandled = (atMost: string): string => `
             (SELECT l.at FROM ${at}.changes l WHERE l.seq > c.lo AND ${isUnhandled} ORDER BY l.seq LIMIT ${hidden(atMost)})
              UNION ALL
             (SELECT l.at FROM pg_snapshot_xip(c.snap_prev) AS late (xid), LATERAL (
                 SELECT l.at FROM ${at}.changes l
                  WHERE l.xid BETWEEN late.xid AND late.xid AND coalesce(l.seq <= c.lo, false) AND ${isUnhandled}
                  ORDER BY l.xid, l.seq LIMIT ${hidden(atMost)}) l)`
  return {
    pruneState: {
      name: 'input_prune_state',
      // The snapshot of a cursor in an earlier lineage is another server's: it holds everything.
      text: `SELECT ${drawn}, (SELECT min(CASE WHEN c.lineage = (${currentLineage(schema)}) THEN pg_snapshot_xmin(c.snap_prev)::text::numeric ELSE 0 END)::text
                             FROM ${at}.cursors c) FROM ${at}.changes_seq_seq`,
    },
    highest: {
      name: 'input_highest',
      text: Array.from(
        { length: blocks },
        (_, n) => `SELECT ${n} AS child, (SELECT max(seq)::text FROM ${child(n)}) AS highest`,
      ).join(' UNION ALL '),
    },
    lockChild: (n) => `LOCK TABLE ${child(n)} IN ACCESS EXCLUSIVE MODE NOWAIT`,
    highestOf: (n) => ({ name: '', text: `SELECT max(seq)::text FROM ${child(n)}` }),
    truncateChild: (n) => `TRUNCATE ${child(n)}`,
    overdue: {
      name: 'input_overdue',
      text: `
        SELECT 1 FROM ${at}.cursors c
         CROSS JOIN (SELECT ${drawn} AS drawn FROM ${at}.changes_seq_seq) s
         WHERE c.name = $1
           AND (CASE WHEN s.drawn::bigint - c.lo > c.max_rows
                     THEN (SELECT count(*) FROM (SELECT FROM (${unhandled('c.max_rows + 1')}) u LIMIT c.max_rows + 1) n) > c.max_rows END
             OR CASE WHEN c.max_age_ms IS NOT NULL
                     THEN (SELECT min(u.at) FROM (SELECT u.at FROM (${unhandled('1000')}) u LIMIT 1000) u)
                          < clock_timestamp() - c.max_age_ms * interval '1 millisecond' END)`,
    },
    capped: {
      name: 'input_capped',
      text: `SELECT name FROM ${at}.cursors WHERE (max_rows IS NOT NULL OR max_age_ms IS NOT NULL) AND gap_from IS NULL`,
    },
    giveUp: {
      name: 'input_give_up',
      text: `
        UPDATE ${at}.cursors SET revision = revision + 1, gap_from = lo + 1, gap_to = greatest(lo + 1, (SELECT (${drawn})::bigint FROM ${at}.changes_seq_seq)),
               snap_prev = pg_current_snapshot(), lo = $2, snap_next = NULL, last_seq = 0, hi = NULL, next_lo = NULL, moved_at = clock_timestamp()
         -- Whoever holds the row is a leader in a batch: it looks by itself, and nobody waits for its handler.
         WHERE name = (SELECT c.name FROM ${at}.cursors c WHERE c.name = $1 AND c.gap_from IS NULL FOR UPDATE SKIP LOCKED)
         RETURNING gap_from::text, gap_to::text`,
    },
  }
}
