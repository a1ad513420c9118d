import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { durable, epochMs, held, ms, named, ofAnySize } from './sql.ts'

const ofThisSize = (array: string): string => array

type Grants = Record<
  | 'grantOne'
  | 'grantAlike'
  | 'grantFree'
  | 'grant'
  | 'grantShared'
  | 'grantMany'
  | 'grantSharedMany'
  | 'grantAll'
  | 'grantAllShared'
  | 'peek'
  | 'peekOne',
  Statement
>

export const grantStatements = (n: TableNames): Grants => {
  const statement = named(n)

  /** `$1` keys, `$2` owners, `$3` ttls, `$4` metadata, `$5` name, `$6` address, `$7` margin, `$8` after failover too. */
  const asked = (shared: boolean, ofSize: (array: string) => string): string => `
fence AS MATERIALIZED (
  SELECT CASE WHEN t.base = f.base AND (t.quiet_until <= clock_timestamp() OR $8) THEN f.base END AS base
  FROM ${n.timeline} t, (SELECT ${n.fencingBase} AS base) f
  WHERE t.singleton
),
asked AS MATERIALIZED (
  SELECT a.key, a.owner, a.ttl, a.metadata, (
    SELECT CASE
      WHEN ${held('l', '$7')} THEN CASE
        WHEN ${shared ? 'l.shared AND l.line = 0' : 'l.session_id = a.owner AND NOT l.shared'} THEN 'free' ELSE 'held' END
      WHEN l.line <> 0 THEN 'stalled' ELSE 'free' END
    FROM ${n.locks} l WHERE l.key = a.key
  ) AS state
  FROM unnest(${['$1::text[]', '$2::text[]', '$3::bigint[]', '$4::text[]'].map(ofSize).join(', ')}) AS a (key, owner, ttl, metadata)
  ORDER BY a.key
)`
  const answers = (granted: string): string => `
SELECT a.key, a.state, g.fencing_token::text, ${epochMs(`g.acquired_at AT TIME ZONE 'UTC'`)}
FROM asked a LEFT JOIN ${granted} g ON g.key = a.key
WHERE a.state IS DISTINCT FROM 'held'`

  const exclusive = (ofSize: (array: string) => string): string => `
${durable},${asked(false, ofSize)},
granted AS (
  INSERT INTO ${n.locks} AS l
    (key, is_acquired, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
  SELECT a.key, true, a.owner, $5, $6, clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() + ${ms('a.ttl')},
    fence.base + nextval(${n.fencingTokens}), a.metadata::jsonb
  FROM asked a, fence, durable
  WHERE fence.base IS NOT NULL AND (a.state IS NULL OR a.state = 'free')
  ON CONFLICT (key) DO UPDATE SET
    is_acquired = true, shared = false, session_id = excluded.session_id, acquirer_name = excluded.acquirer_name,
    acquirer_address = excluded.acquirer_address, acquired_at = excluded.acquired_at,
    -- Of two attempts to ask for one grant the earlier may arrive later, and the holder believes in the longer lease.
    expires_at = CASE WHEN l.session_id = excluded.session_id THEN greatest(l.expires_at, excluded.expires_at)
      ELSE excluded.expires_at END,
    -- Drawn when the row is ours, not before: excluded has one that an earlier grant may since have overtaken.
    fencing_token = CASE WHEN l.session_id = excluded.session_id THEN l.fencing_token
      ELSE (SELECT base FROM fence) + nextval(${n.fencingTokens}) END,
    metadata = excluded.metadata, released_at = NULL
  WHERE l.line = 0 AND (NOT l.is_acquired OR l.expires_at + ${ms('$7')} <= clock_timestamp())
    -- The answer to this very grant was lost, and it is asked for again.
    OR (l.is_acquired AND NOT l.shared AND l.session_id = excluded.session_id)
  RETURNING l.key, l.fencing_token, l.acquired_at
)`

  const joins = `l.is_acquired AND l.shared AND l.expires_at + ${ms('$7')} > clock_timestamp()`
  const shared = (ofSize: (array: string) => string): string => `
${durable},${asked(true, ofSize)},
entered AS (
  INSERT INTO ${n.locks} AS l
    (key, is_acquired, shared, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token)
  SELECT a.key, true, true, $5, $6, clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() + ${ms('a.ttl')},
    fence.base + nextval(${n.fencingTokens})
  FROM asked a, fence, durable
  WHERE fence.base IS NOT NULL AND (a.state IS NULL OR a.state = 'free')
  ON CONFLICT (key) DO UPDATE SET
    is_acquired = true, shared = true, session_id = NULL, metadata = NULL, released_at = NULL,
    acquirer_name = CASE WHEN ${joins} THEN l.acquirer_name ELSE excluded.acquirer_name END,
    acquirer_address = CASE WHEN ${joins} THEN l.acquirer_address ELSE excluded.acquirer_address END,
    acquired_at = CASE WHEN ${joins} THEN l.acquired_at ELSE excluded.acquired_at END,
    expires_at = CASE WHEN ${joins} THEN greatest(l.expires_at, excluded.expires_at) ELSE excluded.expires_at END,
    fencing_token = (SELECT base FROM fence) + nextval(${n.fencingTokens})
  WHERE l.line = 0 AND (NOT l.is_acquired OR l.shared OR l.expires_at + ${ms('$7')} <= clock_timestamp())
  RETURNING l.key, l.fencing_token
),
granted AS (
  INSERT INTO ${n.shares} AS s
    (key, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
  SELECT a.key, a.owner, $5, $6, clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() + ${ms('a.ttl')},
    e.fencing_token, a.metadata::jsonb
  FROM entered e JOIN asked a ON a.key = e.key
  ON CONFLICT (key, session_id) DO UPDATE SET expires_at = greatest(s.expires_at, excluded.expires_at)
  RETURNING s.key, s.fencing_token, s.acquired_at
)`

  /** Fails with 22012 unless all keys are granted: the statement is undone as a whole, and nobody ever sees a part of it. */
  const allOrNothing = `
SELECT a.key, a.state, g.fencing_token::text, ${epochMs(`g.acquired_at AT TIME ZONE 'UTC'`)},
  1 / (SELECT CASE WHEN count(*) IN (0, cardinality($1::text[])) THEN 1 ELSE 0 END FROM granted)
FROM asked a JOIN granted g ON g.key = a.key`
  /** Candidates for a grant of many: none, unless in the snapshot all are free. */
  const onlyAll = (text: string): string =>
    text.replace(
      'WHERE fence.base IS NOT NULL AND',
      `WHERE (SELECT bool_and(b.state IS NULL OR b.state = 'free') FROM asked b) AND fence.base IS NOT NULL AND`,
    )

  return {
    /**
     * Grants one key that is free: `$1` key, `$2` owner, `$3` ttl, `$4` metadata, `$5` to `$8` as below. No row, and nothing
     * written, when it is not; the next statement knows why. Half the cost of that one, because there is little to plan.
     */
    grantOne: statement(
      'grant_one',
      `INSERT INTO ${n.locks} AS l
  (key, is_acquired, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
SELECT $1, true, $2, $5, $6, clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() + ${ms('$3::bigint')},
  t.base + nextval(${n.fencingTokens}), $4::jsonb
FROM ${n.timeline} t
WHERE t.base = ${n.fencingBase} AND (t.quiet_until <= clock_timestamp() OR $8)
  AND set_config('synchronous_commit', 'on', true) = 'on'
  AND NOT EXISTS (SELECT FROM ${n.locks} h WHERE h.key = $1 AND (h.line <> 0 OR (${held('h', '$7')})))
ON CONFLICT (key) DO UPDATE SET
  is_acquired = true, shared = false, session_id = excluded.session_id, acquirer_name = excluded.acquirer_name,
  acquirer_address = excluded.acquirer_address, acquired_at = excluded.acquired_at, expires_at = excluded.expires_at,
  -- The base of the number in excluded, and a number drawn when the row is ours.
  fencing_token = (excluded.fencing_token >> 48 << 48) + nextval(${n.fencingTokens}),
  metadata = excluded.metadata, released_at = NULL
WHERE l.line = 0 AND (NOT l.is_acquired OR l.expires_at + ${ms('$7')} <= clock_timestamp())
RETURNING l.fencing_token::text, ${epochMs(`l.acquired_at AT TIME ZONE 'UTC'`)}`,
    ),
    /**
     * The same for many keys with one owner, ttl and metadata. One row: `all`, or the keys that were granted as JSON; their
     * tokens in the same order, as the text of an array.
     */
    grantAlike: statement(
      'grant_alike',
      `SELECT granted, tokens, acquired_ms FROM ${n.grantAlike}($1, $2, $3, $4, $5, $6, $7, $8)`,
    ),
    /** The same for many keys that each have their own. */
    grantFree: statement(
      'grant_free',
      `SELECT granted, tokens, acquired_ms FROM ${n.grant}($1, $2, $3, $4, $5, $6, $7, $8)`,
    ),
    /** Grants what is free and has no line, in key order; writes nothing for what is held. One row per key not held. */
    grant: statement('grant', `WITH ${exclusive(ofAnySize)}${answers('granted')}`),
    /** The same for shared holders: free, or shared and no line. */
    grantShared: statement('grant_shared', `WITH ${shared(ofAnySize)}${answers('granted')}`),
    /** The same two for large batches, planned for their size. */
    grantMany: { ...statement('grant_many', `WITH ${exclusive(ofThisSize)}${answers('granted')}`), prepared: false },
    grantSharedMany: {
      ...statement('grant_shared_many', `WITH ${shared(ofThisSize)}${answers('granted')}`),
      prepared: false,
    },
    /** Which keys (`$1`) are held, and whether a shared holder may join; `$2` margin. */
    peek: statement(
      'peek',
      `SELECT l.key, CASE WHEN l.shared AND l.line = 0 THEN '1' ELSE '0' END
FROM ${n.locks} l WHERE l.key = ANY ($1::text[]) AND ${held('l', '$2')}`,
    ),
    peekOne: statement(
      'peek_one',
      `SELECT CASE WHEN l.shared AND l.line = 0 THEN '1' ELSE '0' END
FROM ${n.locks} l WHERE l.key = $1 AND ${held('l', '$2')}`,
    ),

    /** Grants all keys or none. */
    grantAll: { ...statement('grant_all', `WITH ${onlyAll(exclusive(ofThisSize))}${allOrNothing}`), prepared: false },
    grantAllShared: {
      ...statement('grant_all_shared', `WITH ${onlyAll(shared(ofThisSize))}${allOrNothing}`),
      prepared: false,
    },
  }
}
