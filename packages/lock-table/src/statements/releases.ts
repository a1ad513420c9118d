import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { ms, named } from './sql.ts'

export const releaseStatements = (
  n: TableNames,
): Record<'release' | 'releaseOne' | 'releaseMany' | 'keep' | 'keepShare', Statement> => {
  const statement = named(n)
  return {
    /**
     * Frees one key (`$1`, owner `$2`, token `$3`) for which nobody waits; no row where the hand-off has to. It commits as
     * `$4` says: `off` answers before it is on disk, and a crash of the server then leaves the lease to end by itself.
     */
    releaseOne: statement(
      'release_one',
      `UPDATE ${n.locks} AS l SET
  is_acquired = false, session_id = NULL, acquirer_name = NULL, acquirer_address = NULL, acquired_at = NULL,
  expires_at = NULL, metadata = NULL, released_at = clock_timestamp()
WHERE l.key = $1 AND l.is_acquired AND NOT l.shared AND l.line = 0 AND l.session_id = $2 AND l.fencing_token = $3::bigint
  AND set_config('synchronous_commit', $4, true) = $4
RETURNING 1`,
    ),
    /**
     * The same for many: `$1` keys, `$2` tokens, `$3` what their owners are like, `$4` how it commits. One row: `all`, or the
     * tokens of those that were freed as the text of an array, null for none.
     */
    releaseMany: statement('release_many', `SELECT released FROM ${n.release}($1, $2, $3, $4)`),
    /**
     * Where the function is not there: frees the keys whose owner and token match and for which nobody waits; the others are
     * left to the hand-off. The rows are written through the key's index in the order of the keys, whatever a planner thinks
     * of the table.
     */
    release: statement(
      'release',
      `INSERT INTO ${n.locks} AS l (key, session_id, fencing_token)
SELECT a.key, a.owner, a.token FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (key, owner, token)
WHERE set_config('synchronous_commit', $4, true) = $4
ORDER BY a.key
ON CONFLICT (key) DO UPDATE SET
  is_acquired = false, session_id = NULL, acquirer_name = NULL, acquirer_address = NULL, acquired_at = NULL,
  expires_at = NULL, metadata = NULL, released_at = clock_timestamp()
WHERE l.is_acquired AND NOT l.shared AND l.line = 0
  AND l.session_id = excluded.session_id AND l.fencing_token = excluded.fencing_token
RETURNING l.key, (l.released_at IS NOT NULL)::int::text`,
    ),

    /**
     * Lets the lease of `$1` (owner `$2`, token `$3`) end in `$4` milliseconds, and takes its owner off: a renewal that is
     * still on its way touches nothing. No row when it is over already. Durable: a crash must not shorten it.
     */
    keep: statement(
      'keep',
      `UPDATE ${n.locks} AS l SET session_id = NULL, expires_at = clock_timestamp() + ${ms('$4::bigint')}
WHERE l.key = $1 AND l.session_id = $2 AND l.fencing_token = $3::bigint
  AND l.is_acquired AND NOT l.shared AND l.expires_at > clock_timestamp()
  AND set_config('synchronous_commit', 'on', true) = 'on'
RETURNING 1`,
    ),
    /** The same for a shared holder. Its key stays taken until the latest of the leases that it had. */
    keepShare: statement(
      'keep_share',
      `UPDATE ${n.shares} AS s SET fencing_token = -s.fencing_token, expires_at = clock_timestamp() + ${ms('$4::bigint')}
WHERE s.key = $1 AND s.session_id = $2 AND s.fencing_token = $3::bigint AND s.expires_at > clock_timestamp()
  AND set_config('synchronous_commit', 'on', true) = 'on'
RETURNING 1`,
    ),
  }
}
