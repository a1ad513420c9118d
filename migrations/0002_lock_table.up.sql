-- Leased locks in a table: grants, shared holders, the line of waiters. Needs 0001_fencing.
-- package: lock-table
-- version: 1
-- compatible with: 1
\if :{?schema}
\else
  \set schema coordination
\endif

CREATE SCHEMA IF NOT EXISTS :"schema";

CREATE TABLE IF NOT EXISTS :"schema".schema_versions (
  package         text        PRIMARY KEY,
  version         integer     NOT NULL,
  compatible_with integer     NOT NULL,
  migrated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where a supervisor's classic table is in place already, it is upgraded where it stands, and the way down must know. A
-- table of that name with other columns is somebody else's.
SELECT set_config('coordination.schema', :'schema', true);
DO $$
DECLARE
  present text := (
    SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attname)
    FROM pg_attribute a
    WHERE a.attrelid = to_regclass(format('%I.locks', current_setting('coordination.schema')))
      AND a.attnum > 0 AND NOT a.attisdropped
  );
  classic constant text := 'acquired_at timestamp without time zone, acquirer_address text, acquirer_name text, '
    || 'is_acquired boolean, key text, session_id character varying(27)';
BEGIN
  PERFORM set_config('coordination.adopted', (present IS NOT NULL)::text, true);
  IF present <> classic THEN
    RAISE EXCEPTION 'table %.locks: expected none, or the classic one (%); got (%)',
      current_setting('coordination.schema'), classic, present
      USING HINT = 'Give the lockers a schema of their own.';
  END IF;
END $$;

-- The six columns of the classic supervisor table. Its readers and writers go on working beside ours.
CREATE TABLE IF NOT EXISTS :"schema".locks (
  key              text        PRIMARY KEY,
  is_acquired      boolean     NOT NULL DEFAULT false,
  session_id       varchar(27),
  acquirer_name    text,
  acquirer_address text,
  acquired_at      timestamp
);
ALTER TABLE :"schema".locks
  ADD COLUMN expires_at    timestamptz,
  ADD COLUMN fencing_token bigint,
  ADD COLUMN metadata      jsonb,
  ADD COLUMN line          bigint  NOT NULL DEFAULT 0,
  ADD COLUMN served        bigint  NOT NULL DEFAULT 0,
  ADD COLUMN shared        boolean NOT NULL DEFAULT false,
  ADD COLUMN released_at   timestamptz,
  -- Room on each page: grants, renewals and releases stay HOT updates.
  SET (fillfactor = 50);
COMMENT ON COLUMN :"schema".locks.session_id IS 'Owner of the grant; null while shared, and after a forced release';
COMMENT ON COLUMN :"schema".locks.acquired_at IS 'UTC';
COMMENT ON COLUMN :"schema".locks.expires_at IS 'End of the lease; null on a row that is acquired: held without end, as by a writer of the classic table';
COMMENT ON COLUMN :"schema".locks.fencing_token IS 'Of the last grant';
COMMENT ON COLUMN :"schema".locks.line IS 'Last ticket given to a waiter; 0 when nobody waits';
COMMENT ON COLUMN :"schema".locks.served IS 'Last ticket whose waiter was granted the lock';
COMMENT ON COLUMN :"schema".locks.shared IS 'Held by the holders in lock_shares; expires_at is the latest of theirs';

-- One row for each shared holder of a key.
CREATE TABLE :"schema".lock_shares (
  key              text        NOT NULL,
  session_id       varchar(27) NOT NULL,
  acquirer_name    text,
  acquirer_address text,
  acquired_at      timestamp   NOT NULL,
  expires_at       timestamptz NOT NULL,
  fencing_token    bigint      NOT NULL,
  metadata         jsonb,
  PRIMARY KEY (key, session_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE :"schema".lock_shares IS 'Shared holders; they hold only while their row in locks says shared';

-- One row for each process that waits: its liveness, for all its tickets.
CREATE TABLE :"schema".lock_sessions (
  session_id varchar(27) PRIMARY KEY,
  channel    text,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN :"schema".lock_sessions.channel IS 'Where the process listens; null when it polls';

CREATE SEQUENCE :"schema".lock_tickets AS bigint;

-- The line of waiters of each key, in the order of their tickets.
CREATE TABLE :"schema".lock_waiters (
  key              text        NOT NULL,
  ticket           bigint      NOT NULL,
  session_id       varchar(27) NOT NULL,
  owner            varchar(27) NOT NULL,
  shared           boolean     NOT NULL,
  acquirer_name    text,
  acquirer_address text,
  metadata         jsonb,
  PRIMARY KEY (key, ticket)
);
COMMENT ON COLUMN :"schema".lock_waiters.owner IS 'session_id of the grant that this ticket becomes';

-- What a failover changes. Grants that the new primary never heard of may still be believed in: for the longest ttl in use
-- nothing is granted after the fencing base has changed.
CREATE TABLE :"schema".lock_timeline (
  singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
  base        bigint      NOT NULL,
  max_ttl_ms  bigint      NOT NULL DEFAULT 0,
  quiet_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO :"schema".lock_timeline (base) SELECT :"schema".fencing_rebase();

CREATE VIEW :"schema".active_locks AS
SELECT key, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata, shared
FROM :"schema".locks
WHERE is_acquired AND (expires_at IS NULL OR expires_at > clock_timestamp());
COMMENT ON VIEW :"schema".active_locks IS 'The truth where is_acquired alone is not: rows of crashed holders whose lease is over are not in it';

-- Grants what is free, as many keys at a time as are asked for with one ttl and the same metadata: rows that are there are
-- updated, missing ones inserted. What is not granted is not touched, and asked for again with the statement that knows why.
-- Answers with 'all' where every key was granted and the tokens stand in the order of the keys, or else with the keys that
-- were granted, as JSON, in the order of their tokens.
-- All rows get one owner, which names the grant of a key among all grants of the key. So there is nothing to join: the rows
-- are found in one walk along the index, which is half the work of looking for each of them.
-- A row that changes while it is waited for is looked at anew, and the number is drawn anew with it: no grant has a lower
-- token than one before it.
CREATE FUNCTION :"schema".lock_grant_alike(
  keys text[], owner text, ttl bigint, metadata text, name text, address text, margin_ms bigint, after_failover boolean
)
RETURNS TABLE (granted text, tokens text, acquired_ms text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  base            bigint;
  now             timestamptz;
  began           timestamp;
  ends            timestamptz;
  expired         timestamptz;
  noted           jsonb := $4;
  updated         text[];
  updated_tokens  bigint[];
  inserted        text[];
  inserted_tokens bigint[];
BEGIN
  -- From before the rows are waited for: a lease may end earlier than it could, never later than its holder believes.
  SELECT t.base, clock_timestamp() INTO base, now
  FROM lock_timeline t
  WHERE t.base = coalesce(
      (SELECT f.base FROM fencing f WHERE f.server_started_at = pg_postmaster_start_time() AND f.table_oid = f.tableoid),
      fencing_rebase()
    )
    AND (t.quiet_until <= clock_timestamp() OR $8) AND set_config('synchronous_commit', 'on', true) = 'on';
  IF NOT FOUND THEN
    RETURN;
  END IF;
  began := now AT TIME ZONE 'UTC';
  ends := now + $3 * interval '1 millisecond';
  expired := now - $7 * interval '1 millisecond';

  WITH granted AS (
    UPDATE locks AS l SET
      is_acquired = true, shared = false, session_id = $2, acquirer_name = $5, acquirer_address = $6, acquired_at = began,
      expires_at = ends, fencing_token = base + nextval('fencing_tokens'), metadata = noted, released_at = NULL
    WHERE l.key = ANY ($1) AND l.line = 0 AND (NOT l.is_acquired OR l.expires_at <= expired)
    RETURNING l.key, l.fencing_token
  )
  SELECT array_agg(g.key), array_agg(g.fencing_token) INTO updated, updated_tokens FROM granted g;

  IF coalesce(cardinality(updated), 0) < cardinality($1) THEN
    -- Waits for nobody but those who insert the same key, so the two steps together lock rows in no order that matters.
    WITH granted AS (
      INSERT INTO locks
        (key, is_acquired, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
      SELECT a.key, true, $2, $5, $6, began, ends, base + nextval('fencing_tokens'), noted
      FROM unnest($1) AS a (key)
      WHERE NOT EXISTS (SELECT FROM locks l WHERE l.key = a.key)
      ORDER BY a.key
      ON CONFLICT (key) DO NOTHING
      RETURNING key, fencing_token
    )
    SELECT array_agg(g.key), array_agg(g.fencing_token) INTO inserted, inserted_tokens FROM granted g;
    updated := updated || inserted;
    updated_tokens := updated_tokens || inserted_tokens;
  END IF;
  RETURN QUERY SELECT CASE WHEN updated = $1 THEN 'all' ELSE array_to_json(updated)::text END, updated_tokens::text,
    (extract(epoch FROM now) * 1000)::bigint::text;
END $$;

-- The same for keys of which each has an owner, a ttl and metadata of its own. It answers with all keys that were granted.
-- Each key comes once, so that a planner who keeps the rows that it found, for keys that come again, keeps them for nothing: a
-- tenth of the whole.
CREATE FUNCTION :"schema".lock_grant(
  keys text[], owners text[], ttls bigint[], metadata text[], name text, address text, margin_ms bigint,
  after_failover boolean
)
RETURNS TABLE (granted text, tokens text, acquired_ms text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  base            bigint;
  now             timestamptz;
  updated         text[];
  updated_tokens  bigint[];
  inserted        text[];
  inserted_tokens bigint[];
BEGIN
  SELECT t.base, clock_timestamp() INTO base, now
  FROM lock_timeline t
  WHERE t.base = coalesce(
      (SELECT f.base FROM fencing f WHERE f.server_started_at = pg_postmaster_start_time() AND f.table_oid = f.tableoid),
      fencing_rebase()
    )
    AND (t.quiet_until <= clock_timestamp() OR $8) AND set_config('synchronous_commit', 'on', true) = 'on';
  IF NOT FOUND THEN
    RETURN;
  END IF;

  WITH granted AS (
    UPDATE locks AS l SET
      is_acquired = true, shared = false, session_id = a.owner, acquirer_name = $5, acquirer_address = $6,
      acquired_at = now AT TIME ZONE 'UTC', expires_at = now + a.ttl * interval '1 millisecond',
      fencing_token = base + nextval('fencing_tokens'), metadata = a.metadata::jsonb, released_at = NULL
    FROM (
      SELECT u.key, u.owner, u.ttl, u.metadata
      FROM unnest($1, $2, $3, $4) AS u (key, owner, ttl, metadata) ORDER BY u.key
    ) a
    WHERE l.key = a.key AND l.line = 0
      AND (NOT l.is_acquired OR l.expires_at <= now - $7 * interval '1 millisecond')
    RETURNING l.key, l.fencing_token
  )
  SELECT array_agg(g.key), array_agg(g.fencing_token) INTO updated, updated_tokens FROM granted g;

  IF coalesce(cardinality(updated), 0) < cardinality($1) THEN
    WITH granted AS (
      INSERT INTO locks
        (key, is_acquired, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
      SELECT a.key, true, a.owner, $5, $6, now AT TIME ZONE 'UTC', now + a.ttl * interval '1 millisecond',
        base + nextval('fencing_tokens'), a.metadata::jsonb
      FROM unnest($1, $2, $3, $4) AS a (key, owner, ttl, metadata)
      WHERE NOT EXISTS (SELECT FROM locks l WHERE l.key = a.key)
      ORDER BY a.key
      ON CONFLICT (key) DO NOTHING
      RETURNING key, fencing_token
    )
    SELECT array_agg(g.key), array_agg(g.fencing_token) INTO inserted, inserted_tokens FROM granted g;
  END IF;
  RETURN QUERY SELECT array_to_json(updated || inserted)::text, (updated_tokens || inserted_tokens)::text,
    (extract(epoch FROM now) * 1000)::bigint::text;
END $$;

-- Frees keys whose token matches and whose owner is like the pattern, which is that of one locker, and for which nobody
-- waits; the others are left to the hand-off. A token belongs to one grant, so the rows need not be joined with what is asked
-- for. Answers with 'all', or else with the tokens of those that it freed, as the text of an array: they are the rows that
-- bear the time of this call.
-- It commits as the last argument says, off for without waiting for the disk: what a crash undoes of it is a lease, which
-- ends by itself. Whoever was granted the key after it waited for the disk, and with that for this release.
CREATE FUNCTION :"schema".lock_release(keys text[], tokens bigint[], owners text, synchronous_commit text)
RETURNS TABLE (released text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  now    timestamptz := clock_timestamp();
  number bigint;
BEGIN
  PERFORM set_config('synchronous_commit', $4, true);
  UPDATE locks AS l SET
    is_acquired = false, session_id = NULL, acquirer_name = NULL, acquirer_address = NULL, acquired_at = NULL,
    expires_at = NULL, metadata = NULL, released_at = now
  WHERE l.key = ANY ($1) AND l.is_acquired AND NOT l.shared AND l.line = 0
    AND l.session_id LIKE $3 AND (l.fencing_token IN (SELECT unnest($2))) IS TRUE;
  GET DIAGNOSTICS number = ROW_COUNT;
  IF number = cardinality($1) THEN
    RETURN QUERY SELECT 'all';
  ELSE
    RETURN QUERY
    SELECT array_agg(l.fencing_token)::text FROM locks l
    WHERE l.key = ANY ($1) AND NOT l.is_acquired AND l.released_at = now
      AND (l.fencing_token IN (SELECT unnest($2))) IS TRUE;
  END IF;
END $$;

-- Renews leases whose token matches and whose owner is like the pattern: rows are found in one walk along the index, in the
-- order of the keys, on a table of any fill. A planner that is free to choose reads the whole table for a large batch, in an
-- order of its own, and deadlocks with an enqueue. Nor may it plan anew for the arrays of each call, which always looks cheaper
-- to it and takes longer than all the rest.
-- All get one ttl, or each its own where an array of them is given. It counts from before rows are waited for.
-- Unless asked for exactly, a lease never gets shorter: a renewal that was delayed on its way may arrive after a longer one.
-- Answers with 'all', or else with the positions of those that were renewed, as the text of an array. They are read in a
-- second look: what was renewed is locked, and what was over by the first look does not begin again.
CREATE FUNCTION :"schema".lock_renew(
  keys text[], tokens bigint[], owners text, ttls bigint[], ttl bigint, exact boolean
)
RETURNS TABLE (renewed text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  now    timestamptz := clock_timestamp();
  ends   timestamptz := now + $5 * interval '1 millisecond';
  number bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  IF $4 IS NULL THEN
    UPDATE locks AS l SET expires_at = CASE WHEN $6 THEN ends ELSE greatest(l.expires_at, ends) END
    WHERE l.key = ANY ($1) AND l.is_acquired AND l.expires_at > clock_timestamp()
      AND l.session_id LIKE $3 AND (l.fencing_token IN (SELECT unnest($2))) IS TRUE;
  ELSE
    UPDATE locks AS l
    SET expires_at = CASE
      WHEN $6 THEN now + a.ttl * interval '1 millisecond'
      ELSE greatest(l.expires_at, now + a.ttl * interval '1 millisecond') END
    FROM (SELECT u.key, u.token, u.ttl FROM unnest($1, $2, $4) AS u (key, token, ttl) ORDER BY u.key) a
    WHERE l.key = a.key AND l.fencing_token = a.token AND l.session_id LIKE $3
      AND l.is_acquired AND l.expires_at > clock_timestamp();
  END IF;
  GET DIAGNOSTICS number = ROW_COUNT;
  IF number = cardinality($1) THEN
    RETURN QUERY SELECT 'all';
  ELSE
    RETURN QUERY
    SELECT array_agg(a.position)::text
    FROM unnest($1, $2) WITH ORDINALITY AS a (key, token, position)
    JOIN locks l ON l.key = a.key AND l.fencing_token = a.token
    WHERE l.session_id LIKE $3 AND l.is_acquired AND l.expires_at > clock_timestamp();
  END IF;
END $$;

-- The same for shared holders, whose row in locks is locked first: it is what exclusive grants look at.
CREATE FUNCTION :"schema".lock_renew_shares(
  keys text[], owners text[], tokens bigint[], ttls bigint[], ttl bigint, exact boolean
)
RETURNS TABLE (renewed text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM FROM locks l WHERE l.key = ANY ($1) ORDER BY l.key FOR NO KEY UPDATE;
  RETURN QUERY
  -- renew shares
  WITH durable AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'on', true) AS setting, clock_timestamp() AS now
  ),
  renewed AS (
    UPDATE lock_shares s SET expires_at = CASE
      WHEN $6::boolean THEN durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond'
      ELSE greatest(s.expires_at, durable.now + coalesce(a.ttl, $5::bigint) * interval '1 millisecond') END
    FROM durable, unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    WITH ORDINALITY AS a (key, owner, token, ttl, position)
    JOIN locks l ON l.key = a.key AND l.is_acquired AND l.shared
    WHERE s.key = a.key AND s.session_id = a.owner AND s.fencing_token = a.token AND s.expires_at > clock_timestamp()
    RETURNING a.position, s.key, s.expires_at
  ),
  extended AS (
    UPDATE locks l SET expires_at = r.expires_at
    FROM (SELECT key, max(expires_at) AS expires_at FROM renewed GROUP BY key) r
    WHERE l.key = r.key AND l.expires_at < r.expires_at
  )
  SELECT array_agg(position)::text FROM renewed;
  -- renewed shares
END $$;

-- Gives locks back, or looks after locks that nobody holds any more, and grants each to the head of its line.
-- The rows are locked first. The statement after that has a new snapshot and sees each ticket whose row was written before:
-- in one statement a waiter that entered the line meanwhile would be missed, and left waiting before a free lock.
CREATE FUNCTION :"schema".lock_hand_off(
  keys text[], owners text[], tokens bigint[], claim_ms bigint, margin_ms bigint, after_failover boolean, self text
)
RETURNS TABLE (key text, released boolean, session_id varchar, ticket bigint, channel text) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, :"schema", pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  served record;
  row_locked record;
  head record;
  fence record;
BEGIN
  IF cardinality($1) = 1 THEN
    SELECT l.* INTO row_locked FROM locks l WHERE l.key = ($1)[1] FOR NO KEY UPDATE;
    -- One lock given back by its only holder to one who waits for it alone, as most are: the same as below in small steps,
    -- because to set up the statement that knows all cases takes longer than these.
    IF row_locked.is_acquired AND NOT row_locked.shared AND row_locked.line <> 0
      AND row_locked.session_id = ($2)[1] AND (($3)[1] IS NULL OR row_locked.fencing_token = ($3)[1])
      AND set_config('synchronous_commit', 'on', true) = 'on'
    THEN
      SELECT t.base, t.quiet_until <= clock_timestamp() OR $6 AS open INTO fence
      FROM lock_timeline t
      WHERE t.base = coalesce(
          (SELECT f.base FROM fencing f WHERE f.server_started_at = pg_postmaster_start_time() AND f.table_oid = f.tableoid),
          fencing_rebase()
        );
      IF fence.open THEN
        SELECT w.*, (SELECT s.channel FROM lock_sessions s WHERE s.session_id = w.session_id) AS channel INTO head
        FROM lock_waiters w
        WHERE w.key = row_locked.key AND w.ticket > row_locked.served
          AND (SELECT s.expires_at FROM lock_sessions s WHERE s.session_id = w.session_id) > clock_timestamp()
        ORDER BY w.ticket LIMIT 1;
        IF NOT head.shared AND NOT EXISTS (SELECT FROM lock_shares s WHERE s.key = row_locked.key) THEN
          UPDATE locks AS l SET
            session_id = head.owner, acquirer_name = head.acquirer_name, acquirer_address = head.acquirer_address,
            acquired_at = clock_timestamp() AT TIME ZONE 'UTC',
            expires_at = clock_timestamp() + $4 * interval '1 millisecond',
            fencing_token = fence.base + nextval('fencing_tokens'), metadata = head.metadata, served = head.ticket,
            released_at = NULL
          WHERE l.key = row_locked.key;
          DELETE FROM lock_waiters w WHERE w.key = row_locked.key AND w.ticket <= head.ticket;
          key := row_locked.key;
          released := true;
          session_id := head.session_id;
          ticket := head.ticket;
          channel := head.channel;
          IF channel IS NOT NULL AND session_id <> self THEN
            PERFORM pg_notify(channel, ticket::text);
          END IF;
          RETURN NEXT;
          RETURN;
        END IF;
      END IF;
    END IF;
  ELSE
    PERFORM FROM locks l WHERE l.key = ANY ($1) ORDER BY l.key FOR NO KEY UPDATE;
  END IF;
  FOR served IN
  -- serve
  WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true) AS setting),
  fence AS MATERIALIZED (
    SELECT f.base, t.base = f.base AND (t.quiet_until <= clock_timestamp() OR $6) AS open
    FROM durable, lock_timeline t, (SELECT coalesce(
      (SELECT base FROM fencing WHERE server_started_at = pg_postmaster_start_time() AND table_oid = tableoid),
      fencing_rebase()
    ) AS base) f
  ),
  asked AS MATERIALIZED (
    SELECT a.key, a.owner, l.served, l.line,
      l.is_acquired AND NOT l.shared AND l.session_id = a.owner AND (a.token IS NULL OR l.fencing_token = a.token) AS own,
      l.is_acquired AND (l.expires_at IS NULL OR l.expires_at + $5 * interval '1 millisecond' > clock_timestamp()) AS held,
      l.is_acquired AND l.shared AS shared,
      EXISTS (
        SELECT FROM lock_shares s
        WHERE s.key = a.key AND s.session_id = a.owner AND (a.token IS NULL OR s.fencing_token = a.token)
      ) AS own_share,
      (
        SELECT max(s.expires_at) FROM lock_shares s
        WHERE s.key = a.key AND (s.session_id = a.owner AND (a.token IS NULL OR s.fencing_token = a.token)) IS NOT TRUE
          AND s.expires_at + $5 * interval '1 millisecond' > clock_timestamp()
      ) AS shared_until
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (key, owner, token)
    JOIN locks l ON l.key = a.key
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
      SELECT w.ticket, w.shared FROM lock_waiters w
      WHERE w.key = st.key AND w.ticket > st.served
        AND (SELECT s.expires_at FROM lock_sessions s WHERE s.session_id = w.session_id) > clock_timestamp()
      ORDER BY w.ticket LIMIT 1
    ) h
    WHERE fence.open AND st.line <> 0 AND (st.state = 'free' OR (st.state = 'shared' AND h.shared))
  ),
  ranges AS MATERIALIZED (
    SELECT h.key, h.ticket AS head, COALESCE((
      SELECT x.ticket FROM lock_waiters x
      WHERE h.shared AND x.key = h.key AND x.ticket > h.ticket AND NOT x.shared
        AND (SELECT s.expires_at FROM lock_sessions s WHERE s.session_id = x.session_id) > clock_timestamp()
      ORDER BY x.ticket LIMIT 1
    ), CASE WHEN h.shared THEN 9223372036854775807 ELSE h.ticket + 1 END) AS stop
    FROM heads h
  ),
  chosen AS MATERIALIZED (
    SELECT h.key, w.ticket, w.session_id, w.owner, w.shared, w.acquirer_name, w.acquirer_address, w.metadata, s.channel
    FROM ranges h
    CROSS JOIN LATERAL (
      SELECT * FROM lock_waiters w WHERE w.key = h.key AND w.ticket >= h.head AND w.ticket < h.stop OFFSET 0
    ) w
    CROSS JOIN LATERAL (
      SELECT s.channel FROM lock_sessions s WHERE s.session_id = w.session_id AND s.expires_at > clock_timestamp() LIMIT 1
    ) s
  ),
  last_chosen AS MATERIALIZED (
    SELECT DISTINCT ON (c.key) c.key, c.ticket, c.owner, c.shared, c.acquirer_name, c.acquirer_address, c.metadata
    FROM chosen c ORDER BY c.key, c.ticket DESC
  ),
  rows_written AS (
    UPDATE locks l SET
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
        WHEN NOT c.shared THEN (SELECT base FROM fence) + nextval('fencing_tokens') ELSE l.fencing_token END,
      metadata = CASE WHEN NOT c.shared THEN c.metadata END,
      served = COALESCE(c.ticket, l.served),
      line = CASE WHEN c.key IS NULL AND st.state = 'free' AND (SELECT open FROM fence) THEN 0 ELSE l.line END,
      released_at = CASE WHEN c.key IS NULL AND st.state = 'free' THEN clock_timestamp() END
    FROM states st LEFT JOIN last_chosen c ON c.key = st.key
    WHERE l.key = st.key
      AND (c.key IS NOT NULL OR st.own_share OR (st.state = 'free' AND (st.own OR l.is_acquired OR l.line <> 0)))
  ),
  shares_ended AS (
    DELETE FROM lock_shares s USING states st
    WHERE s.key = st.key AND (st.state = 'free' OR (st.own_share AND s.session_id = st.owner))
  ),
  shares_granted AS (
    INSERT INTO lock_shares
      (key, session_id, acquirer_name, acquirer_address, acquired_at, expires_at, fencing_token, metadata)
    SELECT c.key, c.owner, c.acquirer_name, c.acquirer_address, clock_timestamp() AT TIME ZONE 'UTC',
      clock_timestamp() + $4 * interval '1 millisecond', (SELECT base FROM fence) + nextval('fencing_tokens'), c.metadata
    FROM chosen c WHERE c.shared
  ),
  tickets_ended AS (
    DELETE FROM lock_waiters w USING states st LEFT JOIN last_chosen c ON c.key = st.key, fence
    WHERE w.key = st.key AND fence.open
      AND w.ticket <= CASE WHEN c.key IS NULL AND st.state = 'free' THEN 9223372036854775807 ELSE c.ticket END
  )
  SELECT st.key, st.own OR st.own_share AS released, c.session_id, c.ticket, c.channel
  FROM states st LEFT JOIN chosen c ON c.key = st.key
  -- served
  LOOP
    key := served.key;
    released := served.released;
    session_id := served.session_id;
    ticket := served.ticket;
    channel := served.channel;
    IF served.channel IS NOT NULL AND served.session_id <> self THEN
      PERFORM pg_notify(served.channel, served.ticket::text);
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;

DO $$ BEGIN
  IF current_setting('coordination.adopted')::boolean THEN
    EXECUTE format('COMMENT ON TABLE %I.locks IS %L', current_setting('coordination.schema'), 'Locks; adopted from the classic supervisor table');
  ELSE
    EXECUTE format('COMMENT ON TABLE %I.locks IS %L', current_setting('coordination.schema'), 'Locks, one row a key; the row outlives the release');
  END IF;
END $$;

INSERT INTO :"schema".schema_versions AS v (package, version, compatible_with)
VALUES ('lock-table', 1, 1)
ON CONFLICT (package) DO UPDATE
   SET version = excluded.version, compatible_with = excluded.compatible_with, migrated_at = excluded.migrated_at;
