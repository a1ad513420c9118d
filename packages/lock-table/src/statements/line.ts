import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { epochMs, held, lazy, leaseLeftMs, leftMs, ms, named, ofAnySize } from './sql.ts'

export const lineStatements = (
  n: TableNames,
): Record<'enqueue' | 'withdraw' | 'beat' | 'leave' | 'look' | 'lookOne', Statement> => {
  const statement = named(n)
  /** A column of the row `l`, where the ticket that is looked after became its holder. */
  const own = (column: string): string => `CASE WHEN NOT l.shared AND l.session_id = $3 THEN l.${column} END`
  return {
    /** Gives a ticket for each key that is held or has a line; no row for a key that is free: try again. */
    enqueue: statement(
      'enqueue',
      `WITH ${lazy},
asked AS MATERIALIZED (
  SELECT a.key, a.owner, a.shared, a.metadata
  FROM unnest(${['$1::text[]', '$2::text[]', '$3::boolean[]', '$4::text[]'].map(ofAnySize).join(', ')})
    AS a (key, owner, shared, metadata)
  ORDER BY a.key
),
numbered AS (
  -- excluded.released_at says that a shared holder asks: shared holders without a line are joined, not waited for.
  INSERT INTO ${n.locks} AS l (key, released_at)
  SELECT a.key, CASE WHEN a.shared THEN clock_timestamp() END FROM asked a, lazy
  ON CONFLICT (key) DO UPDATE SET line = nextval(${n.tickets})
  WHERE l.line <> 0 OR (${held('l', '$8')} AND NOT (l.shared AND excluded.released_at IS NOT NULL))
  RETURNING l.key, l.line
)
INSERT INTO ${n.waiters} (key, ticket, session_id, owner, shared, acquirer_name, acquirer_address, metadata)
SELECT e.key, e.line, $7, a.owner, a.shared, $5, $6, a.metadata::jsonb
FROM numbered e JOIN asked a ON a.key = e.key WHERE e.line <> 0
RETURNING key, ticket::text`,
    ),

    /**
     * Takes tickets out of their lines. The key's row is locked first, so that a ticket is either withdrawn or served: a key
     * without a row in the answer was granted, or its ticket passed over.
     */
    withdraw: statement(
      'withdraw',
      `WITH ${lazy},
rows_locked AS MATERIALIZED (
  SELECT l.key FROM ${n.locks} l WHERE l.key = ANY ($1::text[]) ORDER BY l.key FOR NO KEY UPDATE
)
DELETE FROM ${n.waiters} w USING lazy, rows_locked r, unnest($1::text[], $2::bigint[]) AS a (key, ticket)
WHERE r.key = a.key AND w.key = a.key AND w.ticket = a.ticket
RETURNING w.ticket::text`,
    ),

    /** Says that a waiting process lives. `$2` channel or null, `$3` for how long. */
    beat: statement(
      'beat',
      `WITH ${lazy}
INSERT INTO ${n.sessions} AS s (session_id, channel, expires_at)
SELECT $1, $2, clock_timestamp() + ${ms('$3::bigint')} FROM lazy
ON CONFLICT (session_id) DO UPDATE SET channel = excluded.channel, expires_at = excluded.expires_at`,
    ),
    /** Ends a session and its tickets (keys `$2`, tickets `$3`). */
    leave: statement(
      'leave',
      `WITH ended AS (
  DELETE FROM ${n.waiters} w USING unnest($2::text[], $3::bigint[]) AS a (key, ticket)
  WHERE w.key = a.key AND w.ticket = a.ticket AND w.session_id = $1
)
DELETE FROM ${n.sessions} WHERE session_id = $1`,
    ),

    /**
     * What became of tickets (`$1` keys, `$2` tickets, `$3` owners, `$4` shared): position, token and remaining lease if
     * granted, whether it still stands in line, whether the hand-off is due, and in how many milliseconds it will be.
     */
    look: statement(
      'look',
      `SELECT a.position::text,
  COALESCE(CASE WHEN NOT l.shared AND l.session_id = a.owner THEN l.fencing_token END, s.fencing_token)::text,
  ${leaseLeftMs('COALESCE(CASE WHEN NOT l.shared AND l.session_id = a.owner THEN l.expires_at END, s.expires_at)')},
  ${epochMs(`COALESCE(CASE WHEN NOT l.shared AND l.session_id = a.owner THEN l.acquired_at END, s.acquired_at) AT TIME ZONE 'UTC'`)},
  EXISTS (SELECT FROM ${n.waiters} w WHERE w.key = a.key AND w.ticket = a.ticket)::int::text,
  (NOT COALESCE(${held('l', '$5')}, false) OR (a.shared AND l.shared AND NOT EXISTS (
    SELECT FROM ${n.waiters} w JOIN ${n.sessions} o ON o.session_id = w.session_id AND o.expires_at > clock_timestamp()
    WHERE w.key = a.key AND w.ticket < a.ticket AND NOT w.shared
  )))::int::text,
  ${leftMs(`(l.expires_at + ${ms('$5')})`)}
FROM unnest(${['$1::text[]', '$2::bigint[]', '$3::text[]', '$4::boolean[]'].map(ofAnySize).join(', ')})
  WITH ORDINALITY AS a (key, ticket, owner, shared, position)
LEFT JOIN LATERAL (SELECT * FROM ${n.locks} l WHERE l.key = a.key LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT * FROM ${n.shares} s WHERE s.key = a.key AND s.session_id = a.owner AND l.shared LIMIT 1) s ON true`,
    ),
    /** The same for one who waits alone for the key `$1`: ticket `$2`, owner `$3`, margin `$4`. A third of the cost. */
    lookOne: statement(
      'look_one',
      `SELECT '1', (${own('fencing_token')})::text, ${leaseLeftMs(own('expires_at'))},
  ${epochMs(`${own('acquired_at')} AT TIME ZONE 'UTC'`)},
  EXISTS (SELECT FROM ${n.waiters} w WHERE w.key = $1 AND w.ticket = $2::bigint)::int::text,
  (NOT COALESCE(${held('l', '$4')}, false))::int::text,
  ${leftMs(`(l.expires_at + ${ms('$4')})`)}
FROM (VALUES (1)) AS one (n) LEFT JOIN ${n.locks} l ON l.key = $1`,
    ),
  }
}
