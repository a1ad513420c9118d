import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { durable, epochMs, ms, named } from './sql.ts'

export const operatorStatements = (
  n: TableNames,
): Record<'list' | 'disown' | 'expire' | 'lockTable' | 'prune' | 'ping', Statement> => {
  const statement = named(n)
  return {
    /** The state of keys: `$1` keys or null for all, `$2` prefix, `$3` name, `$4` acquired or not, `$5` how many. */
    list: statement(
      'list',
      `SELECT l.key, l.is_acquired::int::text, l.shared::int::text, l.session_id, l.acquirer_name, l.acquirer_address,
  ${epochMs(`l.acquired_at AT TIME ZONE 'UTC'`)}, ${epochMs('l.expires_at')}, l.fencing_token::text, l.metadata::text, (
    SELECT count(*) FROM ${n.waiters} w JOIN ${n.sessions} s ON s.session_id = w.session_id AND s.expires_at > clock_timestamp()
    WHERE w.key = l.key AND l.line <> 0 AND w.ticket > l.served
  )::text, (
    SELECT json_agg(json_build_array(s.session_id, s.acquirer_name, s.acquirer_address,
      ${epochMs(`s.acquired_at AT TIME ZONE 'UTC'`)}, ${epochMs('s.expires_at')}, s.fencing_token::text, s.metadata::text)
      ORDER BY s.fencing_token)
    FROM ${n.shares} s WHERE l.is_acquired AND l.shared AND s.key = l.key AND s.expires_at > clock_timestamp()
  )::text
FROM (
  SELECT key, is_acquired AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS is_acquired, shared, session_id,
    acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata, line, served
  FROM ${n.locks}
) l
WHERE ($1::text[] IS NULL OR l.key = ANY ($1)) AND ($2::text IS NULL OR left(l.key, length($2)) = $2)
  AND ($3::text IS NULL OR (l.is_acquired AND (l.acquirer_name = $3 OR EXISTS (
    SELECT FROM ${n.shares} s WHERE s.key = l.key AND l.shared AND s.acquirer_name = $3 AND s.expires_at > clock_timestamp()
  )))) AND ($4::boolean IS NULL OR l.is_acquired = $4)
ORDER BY l.key COLLATE "C" LIMIT $5`,
    ),

    /** Takes the owner off a lease: its next renewal is refused, and the key is free when the lease would have ended. */
    disown: statement(
      'disown',
      `WITH ${durable},
disowned AS (
  UPDATE ${n.locks} l SET session_id = NULL FROM durable
  WHERE l.key = $1 AND l.is_acquired AND l.expires_at > clock_timestamp()
  RETURNING l.key, l.shared
)
UPDATE ${n.shares} s SET fencing_token = -s.fencing_token FROM disowned d
WHERE s.key = d.key AND d.shared AND s.fencing_token > 0`,
    ),
    /**
     * Ends whatever lease the key has at once; answers with a row if it was held. The hand-off comes after, or is left to
     * whoever looks at the line next. A finite time, because the time that is left of it is computed.
     */
    expire: statement(
      'expire',
      `WITH ${durable},
expired AS (
  UPDATE ${n.locks} l SET session_id = NULL, expires_at = 'epoch' FROM durable
  WHERE l.key = $1 AND l.is_acquired AND (l.expires_at IS NULL OR l.expires_at > clock_timestamp())
  RETURNING l.key
),
shares_ended AS (DELETE FROM ${n.shares} s USING expired e WHERE s.key = e.key)
SELECT key FROM expired`,
    ),

    /** Keeps grants out while rows are deleted, so that a token drawn before a row went is never below one drawn after. */
    lockTable: statement('lock_table', `LOCK TABLE ${n.locks} IN SHARE ROW EXCLUSIVE MODE`),
    /** Deletes rows that have been free for `$1` milliseconds, and what dead sessions left. */
    prune: statement(
      'prune',
      `WITH sessions_pruned AS (
  DELETE FROM ${n.sessions} WHERE expires_at < clock_timestamp() - interval '1 hour'
),
tickets_pruned AS (
  DELETE FROM ${n.waiters} w
  WHERE NOT EXISTS (SELECT FROM ${n.sessions} s WHERE s.session_id = w.session_id AND s.expires_at > clock_timestamp())
),
shares_pruned AS (
  DELETE FROM ${n.shares} WHERE expires_at < clock_timestamp() - ${ms('greatest($1::bigint, 3600000)')}
),
pruned AS (
  DELETE FROM ${n.locks}
  WHERE line = 0 AND (
    (NOT is_acquired AND COALESCE(released_at, acquired_at AT TIME ZONE 'UTC', '-infinity') < clock_timestamp() - ${ms('$1::bigint')})
    OR (is_acquired AND expires_at < clock_timestamp() - ${ms('greatest($1::bigint, 60000)')})
  )
  RETURNING key
)
SELECT count(*)::text FROM pruned`,
    ),
    ping: statement('ping', 'SELECT 1'),
  }
}
