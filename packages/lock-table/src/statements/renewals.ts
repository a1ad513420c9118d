import type { TableNames } from '../names.ts'
import { durableNow, type LockingStatement, locking as lockingOf } from './sql.ts'

export const renewalStatements = (n: TableNames): Record<'renew' | 'renewShares', LockingStatement> => {
  const locking = lockingOf(n)
  return {
    /**
     * Renews leases that are unexpired and still their owner's: `$1` keys, `$2` tokens, `$3` what the owners are like,
     * `$4` ttls, or null for `$5` for all, `$6` whether they may get shorter. One row: `all`, or the positions of those
     * renewed as the text of an array, null for none.
     */
    renew: locking(
      'renew',
      6,
      `SELECT renewed FROM ${n.renew}($1, $2, $3, $4, $5, $6)`,
      `WITH ${durableNow},
renewed AS (
  UPDATE ${n.locks} AS l
  SET expires_at = CASE
    WHEN $6::boolean THEN durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond'
    ELSE greatest(l.expires_at, durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond') END
  FROM durable, unnest($1::text[], $2::bigint[], $4::bigint[]) WITH ORDINALITY AS a (key, token, ttl, position)
  WHERE l.key = a.key AND l.session_id LIKE $3 AND l.fencing_token = a.token
    AND l.is_acquired AND l.expires_at > clock_timestamp()
  RETURNING a.position
)
SELECT array_agg(position)::text FROM renewed`,
    ),
    /** The same for shared holders (`$2` owners, `$3` tokens), whose key stays taken until the latest of their leases ends. */
    renewShares: locking(
      'renew_shares',
      6,
      `SELECT renewed FROM ${n.renewShares}($1, $2, $3, $4, $5, $6)`,
      `WITH ${durableNow},
renewed AS (
  UPDATE ${n.shares} s SET expires_at = CASE
    WHEN $6::boolean THEN durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond'
    ELSE greatest(s.expires_at, durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond') END
  FROM durable, unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
  WITH ORDINALITY AS a (key, owner, token, ttl, position)
  JOIN ${n.locks} l ON l.key = a.key AND l.is_acquired AND l.shared
  WHERE s.key = a.key AND s.session_id = a.owner AND s.fencing_token = a.token AND s.expires_at > clock_timestamp()
  RETURNING a.position, s.key, s.expires_at
),
extended AS (
  UPDATE ${n.locks} l SET expires_at = r.expires_at
  FROM (SELECT key, max(expires_at) AS expires_at FROM renewed GROUP BY key) r
  WHERE l.key = r.key AND l.expires_at < r.expires_at
)
SELECT array_agg(position)::text FROM renewed`,
    ),
  }
}
