import type { Statement } from '@x/pg-session'
import type { TableNames } from './names.ts'

/**
 * A statement whose rows must be locked before it looks at them: by the function of the migration, or, where the server has
 * no plpgsql, as two statements of one transaction. Both run the same text; a test holds the two copies together.
 */
export interface LockingStatement {
  readonly call: Statement
  /** Locks the rows of the keys `$1` in key order, as every statement here does. */
  readonly lock: Statement
  /** What runs after it, with a new snapshot. */
  readonly afterwards: Statement
  /** How many of the values `afterwards` takes. */
  readonly parameters: number
}

export type TableStatements = Readonly<
  Record<
    | 'grant'
    | 'grantShared'
    | 'grantMany'
    | 'grantSharedMany'
    | 'grantAll'
    | 'grantAllShared'
    | 'peek'
    | 'release'
    | 'enqueue'
    | 'withdraw'
    | 'beat'
    | 'leave'
    | 'look'
    | 'notify'
    | 'ground'
    | 'raiseTtl'
    | 'observe'
    | 'list'
    | 'disown'
    | 'expire'
    | 'lockTable'
    | 'prune'
    | 'ping',
    Statement
  > &
    Record<'renew' | 'renewShares' | 'handOff', LockingStatement>
>

/** All columns come as text, so that type parsers which the application registered do not touch them. */
const epochMs = (timestamp: string): string => `(extract(epoch FROM ${timestamp}) * 1000)::bigint::text`
const leftMs = (timestamp: string): string =>
  `ceil(extract(epoch FROM ${timestamp} - clock_timestamp()) * 1000)::bigint::text`
const ms = (parameter: string): string => `${parameter} * interval '1 millisecond'`

/** Committed before the answer leaves, whatever the role's setting; the write reads from this step, so it comes first. */
const durable = `durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true) AS setting)`
/** Need not survive a crash: what is lost is written again. */
const lazy = `lazy AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS setting)`

/**
 * An array whose length a planner cannot see: it finds its plan for some other length no worse, and goes on using it. Planning
 * costs more than the whole rest of a grant.
 */
const ofAnySize = (array: string): string => `(SELECT ${array})`
const ofThisSize = (array: string): string => array

export const tableStatements = (n: TableNames): TableStatements => {
  const statement = (name: string, text: string): Statement => ({ name: `lock_${name}_${n.tag}`, text })
  const held = (l: string, margin: string): string =>
    `${l}.is_acquired AND (${l}.expires_at IS NULL OR ${l}.expires_at + ${ms(margin)} > clock_timestamp())`

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
  ORDER BY a.key COLLATE "C"
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

  const locking = (name: string, parameters: number, call: string, afterwards: string): LockingStatement => ({
    parameters,
    call: statement(name, call),
    lock: statement(
      'lock_rows',
      `SELECT FROM ${n.locks} l WHERE l.key = ANY ($1::text[]) ORDER BY l.key COLLATE "C" FOR NO KEY UPDATE`,
    ),
    afterwards: statement(`${name}_locked`, afterwards),
  })

  return {
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

    /** Grants all keys or none. */
    grantAll: { ...statement('grant_all', `WITH ${onlyAll(exclusive(ofThisSize))}${allOrNothing}`), prepared: false },
    grantAllShared: {
      ...statement('grant_all_shared', `WITH ${onlyAll(shared(ofThisSize))}${allOrNothing}`),
      prepared: false,
    },

    /**
     * Frees the keys whose owner and token match and for which nobody waits; the others are left to the hand-off. The rows
     * are written through the key's index in the order of the keys, whatever a planner thinks of the table.
     */
    release: statement(
      'release',
      `INSERT INTO ${n.locks} AS l (key, session_id, fencing_token)
SELECT a.key, a.owner, a.token FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (key, owner, token)
ORDER BY a.key COLLATE "C"
ON CONFLICT (key) DO UPDATE SET
  is_acquired = false, session_id = NULL, acquirer_name = NULL, acquirer_address = NULL, acquired_at = NULL,
  expires_at = NULL, metadata = NULL, released_at = clock_timestamp()
WHERE l.is_acquired AND NOT l.shared AND l.line = 0
  AND l.session_id = excluded.session_id AND l.fencing_token = excluded.fencing_token
RETURNING l.key, (l.released_at IS NOT NULL)::int::text`,
    ),

    /**
     * Renews leases that are unexpired and still their owner's: `$1` keys, `$2` owners, `$3` tokens, `$4` ttls, `$5` whether they
     * may get shorter. One row: the positions of those renewed as the text of an array, null for none.
     */
    renew: locking(
      'renew',
      5,
      `SELECT renewed FROM ${n.renew}($1, $2, $3, $4, $5)`,
      `WITH ${durable},
renewed AS (
  UPDATE ${n.locks} AS l
  SET expires_at = CASE
    WHEN a.exact THEN clock_timestamp() + a.ttl * interval '1 millisecond'
    ELSE greatest(l.expires_at, clock_timestamp() + a.ttl * interval '1 millisecond') END
  FROM durable, unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[])
    WITH ORDINALITY AS a (key, owner, token, ttl, exact, position)
  WHERE l.key = a.key AND l.session_id = a.owner AND l.fencing_token = a.token
    AND l.is_acquired AND l.expires_at > clock_timestamp()
  RETURNING a.position
)
SELECT array_agg(position)::text FROM renewed`,
    ),
    /** The same for shared holders, whose key stays taken until the latest of their leases ends. */
    renewShares: locking(
      'renew_shares',
      5,
      `SELECT renewed FROM ${n.renewShares}($1, $2, $3, $4, $5)`,
      `WITH ${durable},
renewed AS (
  UPDATE ${n.shares} s SET expires_at = CASE
    WHEN a.exact THEN clock_timestamp() + a.ttl * interval '1 millisecond'
    ELSE greatest(s.expires_at, clock_timestamp() + a.ttl * interval '1 millisecond') END
  FROM durable, unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[])
  WITH ORDINALITY AS a (key, owner, token, ttl, exact, position)
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
      WHERE s.key = a.key AND s.session_id IS DISTINCT FROM a.owner
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
    JOIN ${n.sessions} s ON s.session_id = w.session_id AND s.expires_at > clock_timestamp()
    WHERE w.key = st.key AND w.ticket > st.served
    ORDER BY w.ticket LIMIT 1
  ) h
  WHERE fence.open AND st.line <> 0 AND (st.state = 'free' OR (st.state = 'shared' AND h.shared))
),
chosen AS MATERIALIZED (
  SELECT h.key, w.ticket, w.session_id, w.owner, w.shared, w.acquirer_name, w.acquirer_address, w.metadata, s.channel
  FROM heads h
  CROSS JOIN LATERAL (
    SELECT COALESCE((
      SELECT x.ticket FROM ${n.waiters} x
      JOIN ${n.sessions} s ON s.session_id = x.session_id AND s.expires_at > clock_timestamp()
      WHERE h.shared AND x.key = h.key AND x.ticket > h.ticket AND NOT x.shared
      ORDER BY x.ticket LIMIT 1
    ), CASE WHEN h.shared THEN 9223372036854775807 ELSE h.ticket + 1 END) AS ticket
  ) stop
  JOIN ${n.waiters} w ON w.key = h.key AND w.ticket >= h.ticket AND w.ticket < stop.ticket
  JOIN ${n.sessions} s ON s.session_id = w.session_id AND s.expires_at > clock_timestamp()
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
  WHERE w.key = st.key AND fence.open AND (w.ticket <= c.ticket OR (c.key IS NULL AND st.state = 'free'))
)
SELECT st.key, st.own OR st.own_share AS released, c.session_id, c.ticket, c.channel
FROM states st LEFT JOIN chosen c ON c.key = st.key`,
    ),

    /** Gives a ticket for each key that is held or has a line; no row for a key that is free: try again. */
    enqueue: statement(
      'enqueue',
      `WITH ${lazy},
asked AS MATERIALIZED (
  SELECT a.key, a.owner, a.shared, a.metadata
  FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) AS a (key, owner, shared, metadata)
  ORDER BY a.key COLLATE "C"
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
  SELECT l.key FROM ${n.locks} l WHERE l.key = ANY ($1::text[]) ORDER BY l.key COLLATE "C" FOR NO KEY UPDATE
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
      `WITH ended AS (DELETE FROM ${n.waiters} w USING unnest($2::text[], $3::bigint[]) AS a (key, ticket) WHERE w.key = a.key AND w.ticket = a.ticket AND w.session_id = $1)
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
  ${leftMs('COALESCE(CASE WHEN NOT l.shared AND l.session_id = a.owner THEN l.expires_at END, s.expires_at)')},
  ${epochMs(`COALESCE(CASE WHEN NOT l.shared AND l.session_id = a.owner THEN l.acquired_at END, s.acquired_at) AT TIME ZONE 'UTC'`)},
  EXISTS (SELECT FROM ${n.waiters} w WHERE w.key = a.key AND w.ticket = a.ticket)::int::text,
  (NOT COALESCE(${held('l', '$5')}, false) OR (a.shared AND l.shared AND NOT EXISTS (
    SELECT FROM ${n.waiters} w JOIN ${n.sessions} o ON o.session_id = w.session_id AND o.expires_at > clock_timestamp()
    WHERE w.key = a.key AND w.ticket < a.ticket AND NOT w.shared
  )))::int::text,
  ${leftMs(`(l.expires_at + ${ms('$5')})`)}
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::boolean[]) WITH ORDINALITY AS a (key, ticket, owner, shared, position)
LEFT JOIN LATERAL (SELECT * FROM ${n.locks} l WHERE l.key = a.key LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT * FROM ${n.shares} s WHERE s.key = a.key AND s.session_id = a.owner AND l.shared LIMIT 1) s ON true`,
    ),

    /** Whether the functions of the migration are there, and the longest ttl in use. `$1` names of the functions. */
    ground: statement(
      'ground',
      `SELECT (
  SELECT count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = $1 AND p.proname = ANY ($2::text[])
)::text, t.max_ttl_ms::text FROM ${n.timeline} t`,
    ),
    /** Makes the longest ttl known before the first lease of that length is granted. */
    raiseTtl: statement(
      'raise_ttl',
      `WITH ${durable} UPDATE ${n.timeline} SET max_ttl_ms = $1 FROM durable WHERE max_ttl_ms < $1`,
    ),
    /** Notices a failover, once for all lockers, and tells for how many milliseconds nothing is granted. */
    observe: statement(
      'observe',
      `WITH ${durable},
fence AS MATERIALIZED (SELECT f.base FROM durable, (SELECT ${n.fencingBase} AS base) f),
moved AS (
  UPDATE ${n.timeline} t SET base = f.base, quiet_until = clock_timestamp() + ${ms('t.max_ttl_ms')}
  FROM fence f WHERE t.base <> f.base
  RETURNING t.quiet_until
)
SELECT CASE WHEN quiet_until > clock_timestamp() THEN ${leftMs('quiet_until')} ELSE '0' END
FROM (SELECT COALESCE((SELECT quiet_until FROM moved), t.quiet_until) AS quiet_until FROM ${n.timeline} t) t`,
    ),

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
    /** Wakes a process whose turn it is, where no function does. */
    notify: statement('notify', 'SELECT pg_notify($1, $2)'),
    ping: statement('ping', 'SELECT 1'),
  }
}
