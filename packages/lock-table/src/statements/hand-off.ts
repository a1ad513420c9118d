import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { durable, type LockingStatement, locking as lockingOf, named } from './sql.ts'

export const handOffStatements = (n: TableNames): { handOff: LockingStatement; notify: Statement } => {
  const locking = lockingOf(n)
  return {
    /**
     * Gives locks back (`$2` owners, `$3` tokens, null for any), or looks after keys that nobody holds any more (`$2` null),
     * and grants each to the head of its line for the claim time `$4`. `$5` margin, `$6` after failover too, `$7` the session
     * that needs no notification. Passed-over tickets are deleted. One row per key, and one more for each further waiter served.
     */
    handOff: locking(
      'hand_off',
      6,
      `SELECT key, released::int::text, session_id, ticket::text, channel FROM ${n.handOff}($1, $2, $3, $4, $5, $6, $7)`,
      `WITH ${durable},
fence AS MATERIALIZED (
  SELECT f.base, t.base = f.base AND (t.quiet_until <= clock_timestamp() OR $6) AS open
  FROM durable, ${n.timeline} t, (SELECT ${n.fencingBase} AS base) f
),
asked AS MATERIALIZED (
  SELECT a.key, a.owner, l.served, l.line,
    l.is_acquired AND NOT l.shared AND l.session_id = a.owner AND (a.token IS NULL OR l.fencing_token = a.token) AS own,
    l.is_acquired AND (l.expires_at IS NULL OR l.expires_at + $5 * interval '1 millisecond' > clock_timestamp()) AS held,
    l.is_acquired AND l.shared AS shared,
    EXISTS (
      SELECT FROM ${n.shares} s
      WHERE s.key = a.key AND s.session_id = a.owner AND (a.token IS NULL OR s.fencing_token = a.token)
    ) AS own_share,
    (
      SELECT max(s.expires_at) FROM ${n.shares} s
      WHERE s.key = a.key AND (s.session_id = a.owner AND (a.token IS NULL OR s.fencing_token = a.token)) IS NOT TRUE
        AND s.expires_at + $5 * interval '1 millisecond' > clock_timestamp()
    ) AS shared_until
  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (key, owner, token)
  JOIN ${n.locks} l ON l.key = a.key
),
states AS MATERIALIZED (
  SELECT key, owner, served, line, shared, own, own_share AND shared AS own_share, shared_until,
    CASE WHEN own OR NOT held OR (shared AND shared_until IS NULL) THEN 'free' WHEN shared THEN 'shared' ELSE 'held' END
      AS state
  FROM asked
),
heads AS MATERIALIZED (
  SELECT st.key, h.ticket, h.shared FROM fence, states st
  CROSS JOIN LATERAL (
    SELECT w.ticket, w.shared FROM ${n.waiters} w
    WHERE w.key = st.key AND w.ticket > st.served
      AND (SELECT s.expires_at FROM ${n.sessions} s WHERE s.session_id = w.session_id) > clock_timestamp()
    ORDER BY w.ticket LIMIT 1
  ) h
  WHERE fence.open AND st.line <> 0 AND (st.state = 'free' OR (st.state = 'shared' AND h.shared))
),
ranges AS MATERIALIZED (
  SELECT h.key, h.ticket AS head, COALESCE((
    SELECT x.ticket FROM ${n.waiters} x
    WHERE h.shared AND x.key = h.key AND x.ticket > h.ticket AND NOT x.shared
      AND (SELECT s.expires_at FROM ${n.sessions} s WHERE s.session_id = x.session_id) > clock_timestamp()
    ORDER BY x.ticket LIMIT 1
  ), CASE WHEN h.shared THEN 9223372036854775807 ELSE h.ticket + 1 END) AS stop
  FROM heads h
),
chosen AS MATERIALIZED (
  SELECT h.key, w.ticket, w.session_id, w.owner, w.shared, w.acquirer_name, w.acquirer_address, w.metadata, s.channel
  FROM ranges h
  CROSS JOIN LATERAL (
    SELECT * FROM ${n.waiters} w WHERE w.key = h.key AND w.ticket >= h.head AND w.ticket < h.stop OFFSET 0
  ) w
  CROSS JOIN LATERAL (
    SELECT s.channel FROM ${n.sessions} s WHERE s.session_id = w.session_id AND s.expires_at > clock_timestamp() LIMIT 1
  ) s
),
last_chosen AS MATERIALIZED (
  SELECT DISTINCT ON (c.key) c.key, c.ticket, c.owner, c.shared, c.acquirer_name, c.acquirer_address, c.metadata
  FROM chosen c ORDER BY c.key, c.ticket DESC
),
rows_written AS (
  UPDATE ${n.locks} l SET
    is_acquired = c.key IS NOT NULL OR st.state = 'shared',
    shared = CASE WHEN c.key IS NULL THEN st.state = 'shared' ELSE c.shared END,
    session_id = CASE WHEN NOT c.shared THEN c.owner END,
    acquirer_name = CASE WHEN st.state = 'shared' THEN l.acquirer_name ELSE c.acquirer_name END,
    acquirer_address = CASE WHEN st.state = 'shared' THEN l.acquirer_address ELSE c.acquirer_address END,
    acquired_at = CASE
      WHEN st.state = 'shared' THEN l.acquired_at
      WHEN c.key IS NOT NULL THEN clock_timestamp() AT TIME ZONE 'UTC' END,
    expires_at = CASE
      WHEN c.key IS NOT NULL
      THEN greatest(CASE WHEN c.shared THEN st.shared_until END, clock_timestamp() + $4 * interval '1 millisecond')
      WHEN st.state = 'shared' THEN st.shared_until END,
    fencing_token = CASE
      WHEN NOT c.shared THEN (SELECT base FROM fence) + nextval(${n.fencingTokens}) ELSE l.fencing_token END,
    metadata = CASE WHEN NOT c.shared THEN c.metadata END,
    served = COALESCE(c.ticket, l.served),
    line = CASE WHEN c.key IS NULL AND st.state = 'free' AND (SELECT open FROM fence) THEN 0 ELSE l.line END,
    released_at = CASE WHEN c.key IS NULL AND st.state = 'free' THEN clock_timestamp() END
  FROM states st LEFT JOIN last_chosen c ON c.key = st.key
  WHERE l.key = st.key
    AND (c.key IS NOT NULL OR st.own_share OR (st.state = 'free' AND (st.own OR l.is_acquired OR l.line <> 0)))
),
shares_ended AS (
  DELETE FROM ${n.shares} s USING states st
  WHERE s.key = st.key AND (st.state = 'free' OR (st.own_share AND s.session_id = st.owner))
),
shares_granted AS (
  INSERT INTO ${n.shares}
    (key, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
  SELECT c.key, c.owner, c.acquirer_name, c.acquirer_address, clock_timestamp() AT TIME ZONE 'UTC',
    clock_timestamp() + $4 * interval '1 millisecond', (SELECT base FROM fence) + nextval(${n.fencingTokens}), c.metadata
  FROM chosen c WHERE c.shared
),
tickets_ended AS (
  DELETE FROM ${n.waiters} w USING states st LEFT JOIN last_chosen c ON c.key = st.key, fence
  WHERE w.key = st.key AND fence.open
    AND w.ticket <= CASE WHEN c.key IS NULL AND st.state = 'free' THEN 9223372036854775807 ELSE c.ticket END
)
SELECT st.key, st.own OR st.own_share AS released, c.session_id, c.ticket, c.channel
FROM states st LEFT JOIN chosen c ON c.key = st.key`,
    ),

    /** Wakes a process whose turn it is, where no function does. */
    notify: named(n)('notify', 'SELECT pg_notify($1, $2)'),
  }
}
