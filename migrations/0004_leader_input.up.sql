-- The change feed: the log, the functions that write it, and where each reader stands.
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

-- Owner of the capture functions, powerless on purpose: a table's owner can make to_json run a cast function of his,
-- and that function then has the rights of this role, which are to use this schema and to add rows to the log.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'coordination_capture') THEN
    BEGIN
      CREATE ROLE coordination_capture NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL; -- another database of this server was faster: roles belong to the server
    END;
  END IF;
  IF NOT pg_has_role(current_user, 'coordination_capture',
                     CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
    EXECUTE format('GRANT coordination_capture TO %I', current_user);
  END IF;
END $$;

-- The log. A sequence number is drawn before the commit, so order by it means nothing outside of a snapshot window.
CREATE TABLE :"schema".changes (
  seq       bigint      NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
  xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
  relation  text        NOT NULL,
  operation text        NOT NULL,
  key       jsonb,
  old_key   jsonb,
  before    json,
  after     json,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  lineage   int         NOT NULL DEFAULT 1
) PARTITION BY LIST (((seq >> 20) % 16));
COMMENT ON TABLE :"schema".changes IS 'Captured changes; 16 blocks of 2^20 sequence numbers used in turn, so that pruning is a TRUNCATE';
COMMENT ON COLUMN :"schema".changes.xid IS 'The top-level transaction, under savepoints too';
COMMENT ON COLUMN :"schema".changes.relation IS 'Schema and name of the table; of the root for partitions';
COMMENT ON COLUMN :"schema".changes.key IS 'Values of the key columns; null for a table without a key';
COMMENT ON COLUMN :"schema".changes.old_key IS 'The key before an update that changed it';
COMMENT ON COLUMN :"schema".changes.lineage IS 'Raised by a rebase, because xids of another server mean nothing here';

CREATE TABLE :"schema".changes_0  PARTITION OF :"schema".changes FOR VALUES IN (0);
CREATE TABLE :"schema".changes_1  PARTITION OF :"schema".changes FOR VALUES IN (1);
CREATE TABLE :"schema".changes_2  PARTITION OF :"schema".changes FOR VALUES IN (2);
CREATE TABLE :"schema".changes_3  PARTITION OF :"schema".changes FOR VALUES IN (3);
CREATE TABLE :"schema".changes_4  PARTITION OF :"schema".changes FOR VALUES IN (4);
CREATE TABLE :"schema".changes_5  PARTITION OF :"schema".changes FOR VALUES IN (5);
CREATE TABLE :"schema".changes_6  PARTITION OF :"schema".changes FOR VALUES IN (6);
CREATE TABLE :"schema".changes_7  PARTITION OF :"schema".changes FOR VALUES IN (7);
CREATE TABLE :"schema".changes_8  PARTITION OF :"schema".changes FOR VALUES IN (8);
CREATE TABLE :"schema".changes_9  PARTITION OF :"schema".changes FOR VALUES IN (9);
CREATE TABLE :"schema".changes_10 PARTITION OF :"schema".changes FOR VALUES IN (10);
CREATE TABLE :"schema".changes_11 PARTITION OF :"schema".changes FOR VALUES IN (11);
CREATE TABLE :"schema".changes_12 PARTITION OF :"schema".changes FOR VALUES IN (12);
CREATE TABLE :"schema".changes_13 PARTITION OF :"schema".changes FOR VALUES IN (13);
CREATE TABLE :"schema".changes_14 PARTITION OF :"schema".changes FOR VALUES IN (14);
CREATE TABLE :"schema".changes_15 PARTITION OF :"schema".changes FOR VALUES IN (15);
CREATE INDEX changes_seq ON :"schema".changes (seq);
CREATE INDEX changes_xid_seq ON :"schema".changes (xid, seq);

-- What each input wants captured. A trigger captures the union.
CREATE TABLE :"schema".inputs (
  name       text   NOT NULL,
  relation   text   NOT NULL,
  operations text[] NOT NULL,
  columns    text[],
  notify     boolean NOT NULL DEFAULT false,
  PRIMARY KEY (name, relation)
);
COMMENT ON COLUMN :"schema".inputs.columns IS 'Columns that the input wants to see; null for all of them';

-- Where each input stands.
CREATE TABLE :"schema".cursors (
  name              text        PRIMARY KEY,
  epoch             bigint      NOT NULL DEFAULT 0,
  revision          bigint      NOT NULL DEFAULT 0,
  snap_prev         pg_snapshot NOT NULL,
  lo                bigint      NOT NULL,
  snap_next         pg_snapshot,
  last_seq          bigint      NOT NULL DEFAULT 0,
  hi                bigint,
  next_lo           bigint,
  own_xids          xid8[]      NOT NULL DEFAULT '{}',
  lineage           int         NOT NULL DEFAULT 1,
  system_identifier bigint      NOT NULL,
  backfill          jsonb,
  max_rows          bigint,
  max_age_ms        bigint,
  gap_from          bigint,
  gap_to            bigint,
  moved_at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON COLUMN :"schema".cursors.epoch IS 'Of the leader that may move this row; only ever grows';
COMMENT ON COLUMN :"schema".cursors.revision IS 'Raised by whoever moves the cursor without being the leader, who then reads it anew';
COMMENT ON COLUMN :"schema".cursors.snap_prev IS 'What is visible in it has been handled';
COMMENT ON COLUMN :"schema".cursors.lo IS 'No transaction from xmax(snap_prev) on has drawn a number up to this one';
COMMENT ON COLUMN :"schema".cursors.snap_next IS 'End of a window that takes several batches; null between windows';
COMMENT ON COLUMN :"schema".cursors.last_seq IS 'Last number handled in the window that ends at snap_next';
COMMENT ON COLUMN :"schema".cursors.hi IS 'No change visible in snap_next has a number above this one';
COMMENT ON COLUMN :"schema".cursors.next_lo IS 'What lo will be once snap_next is snap_prev';
COMMENT ON COLUMN :"schema".cursors.own_xids IS 'Transactions in which the handler itself changed captured tables';
COMMENT ON COLUMN :"schema".cursors.backfill IS 'Position of a running backfill; null when none is wanted or it is done';
COMMENT ON COLUMN :"schema".cursors.max_rows IS 'Changes that the log keeps for this input before it drops them with a gap; null for all';
COMMENT ON COLUMN :"schema".cursors.gap_from IS 'First number dropped over the retention cap and not acknowledged by a seek';

-- Events put aside because a handler failed on them, and all later ones of the same keys.
CREATE TABLE :"schema".parked_changes (
  id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  input     text        NOT NULL,
  seq       bigint      NOT NULL,
  xid       xid8        NOT NULL,
  relation  text        NOT NULL,
  operation text        NOT NULL,
  key       jsonb,
  old_key   jsonb,
  before    json,
  after     json,
  at        timestamptz NOT NULL,
  lineage   int         NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason    text,
  replay    boolean     NOT NULL DEFAULT false,
  key_suffix text       NOT NULL
);
CREATE INDEX parked_changes_input ON :"schema".parked_changes (input, id);
COMMENT ON COLUMN :"schema".parked_changes.reason IS 'The error of the handler; null for an event that only waits behind one';
COMMENT ON COLUMN :"schema".parked_changes.key_suffix IS 'Idempotency key without the input: a replay has the same';
COMMENT ON COLUMN :"schema".parked_changes.replay IS 'Asked for by replayParked() and not yet handed over';

-- Expressions over the columns of a row by name. A column that is missing, as after a rename, resolves to the outer
-- "absent" and gives null instead of an error.
CREATE FUNCTION :"schema".capture_key_expression(alias text, columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN cardinality(columns) = 0 THEN 'NULL::jsonb' ELSE
    format('(SELECT jsonb_build_object(%s) FROM (SELECT %I.*) AS present)',
           (SELECT string_agg(format('%L, to_json(%I)', c, c), ', ') FROM unnest(columns) c), alias) END
$$;
CREATE FUNCTION :"schema".capture_row_expression(alias text, columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN cardinality(columns) = 0 THEN format('to_json(%I.*)', alias) ELSE
    format('(SELECT json_build_object(%s) FROM (SELECT %I.*) AS present)',
           (SELECT string_agg(format('%L, %I', c, c), ', ') FROM unnest(columns) c), alias) END
$$;
CREATE FUNCTION :"schema".capture_absent(columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('(SELECT %s) AS absent',
                coalesce((SELECT string_agg(DISTINCT format('NULL::text AS %I', c), ', ') FROM unnest(columns) c), 'NULL'))
$$;

CREATE FUNCTION :"schema".capture_kept(columns text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT coalesce(nullif(columns, ''), '{}')::text[] $$;

-- What a statement leaves over for us: rows too large to be kept, and those whose text JSON operators may refuse; all of
-- its rows where only some columns are kept. Parameters of the statement: location, pattern of such texts.
CREATE FUNCTION :"schema".capture_rest(operation text, source text, keys text[], kept text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, :"schema", pg_temp AS $$
  SELECT format('INSERT INTO changes (relation, operation, key, %s) '
      || 'SELECT $1, %L, %s, CASE WHEN pg_column_size(r.*) <= 524288 THEN %s END FROM %I r, %s '
      || 'WHERE CASE WHEN %L OR pg_column_size(r.*) > 524288 THEN true ELSE to_json(r.*)::text LIKE $2 END',
                CASE source WHEN 'new_rows' THEN 'after' ELSE 'before' END, operation, capture_key_expression('r', keys),
                capture_row_expression('r', kept), source, capture_absent(keys || kept), cardinality(kept) > 0)
$$;

-- The trigger functions. Arguments: location, columns to keep ('' for all), then the key columns.
-- Key columns are arguments because looking them up in the catalog for each statement halves the rate of small writes, and
-- arguments are used where they stand, because each variable that is declared costs every call.
-- alias.* and not alias, and variables before columns: the user's columns may have any name.
-- E'' wherever there is a backslash: a writer may have turned standard_conforming_strings off.
-- json and not jsonb for the rows: jsonb refuses "\u0000" and 1e400000, and the user's write would fail. Even json -> key
-- fails on a text with a \u that stands for no character, so such rows, like those of more than 512 KiB, take the slow path,
-- which names the key's columns. They leave a mark instead of costing each statement a query of its own that looks for them.
-- The session's formats are fixed, or the text of one key would differ from writer to writer. (To look at them first, and
-- set them only where they differ, takes longer.)

-- Nearly every statement is one of these two: all columns of a table whose key is one column. Each operator, function and
-- subscript here is set up anew for every statement, which costs more than what most of them then do: none is needless, and
-- that is why the other cases have functions of their own.
CREATE FUNCTION :"schema".capture_insert_one_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO changes (relation, operation, key, after)
  SELECT TG_ARGV[0], 'create', jsonb_build_object(r.k, r.whole -> r.k), r.whole
  FROM (SELECT CASE WHEN pg_column_size(n.*) <= 524288 THEN to_json(n.*) END AS whole, TG_ARGV[2] AS k FROM new_rows n OFFSET 0) r
  WHERE CASE WHEN r.whole::text NOT LIKE E'%\\\\u%' THEN true ELSE set_config('coordination.slow', 'some', true) IS NULL END;
  IF current_setting('coordination.slow', true) = 'some' THEN
    PERFORM set_config('coordination.slow', '', true);
    EXECUTE capture_rest('create', 'new_rows', TG_ARGV[2:], '{}') USING TG_ARGV[0], E'%\\\\u%';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION :"schema".capture_delete_one_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO changes (relation, operation, key, before)
  SELECT TG_ARGV[0], 'delete', jsonb_build_object(r.k, r.whole -> r.k), r.whole
  FROM (SELECT CASE WHEN pg_column_size(o.*) <= 524288 THEN to_json(o.*) END AS whole, TG_ARGV[2] AS k FROM old_rows o OFFSET 0) r
  WHERE CASE WHEN r.whole::text NOT LIKE E'%\\\\u%' THEN true ELSE set_config('coordination.slow', 'some', true) IS NULL END;
  IF current_setting('coordination.slow', true) = 'some' THEN
    PERFORM set_config('coordination.slow', '', true);
    EXECUTE capture_rest('delete', 'old_rows', TG_ARGV[2:], '{}') USING TG_ARGV[0], E'%\\\\u%';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION :"schema".capture_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  IF TG_ARGV[1] = '' THEN
    INSERT INTO changes (relation, operation, key, after)
    SELECT TG_ARGV[0], 'create', CASE WHEN TG_NARGS > 2 THEN (SELECT jsonb_object_agg(k, r.whole -> k) FROM unnest(TG_ARGV[2:]) k) END, r.whole
    FROM (SELECT CASE WHEN pg_column_size(n.*) <= 524288 THEN to_json(n.*) END AS whole FROM new_rows n OFFSET 0) r
    WHERE CASE WHEN r.whole::text NOT LIKE E'%\\\\u%' THEN true ELSE set_config('coordination.slow', 'some', true) IS NULL END;
  END IF;
  IF TG_ARGV[1] <> '' OR current_setting('coordination.slow', true) = 'some' THEN
    PERFORM set_config('coordination.slow', '', true);
    EXECUTE capture_rest('create', 'new_rows', TG_ARGV[2:], capture_kept(TG_ARGV[1])) USING TG_ARGV[0], E'%\\\\u%';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION :"schema".capture_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  IF TG_ARGV[1] = '' THEN
    INSERT INTO changes (relation, operation, key, before)
    SELECT TG_ARGV[0], 'delete', CASE WHEN TG_NARGS > 2 THEN (SELECT jsonb_object_agg(k, r.whole -> k) FROM unnest(TG_ARGV[2:]) k) END, r.whole
    FROM (SELECT CASE WHEN pg_column_size(o.*) <= 524288 THEN to_json(o.*) END AS whole FROM old_rows o OFFSET 0) r
    WHERE CASE WHEN r.whole::text NOT LIKE E'%\\\\u%' THEN true ELSE set_config('coordination.slow', 'some', true) IS NULL END;
  END IF;
  IF TG_ARGV[1] <> '' OR current_setting('coordination.slow', true) = 'some' THEN
    PERFORM set_config('coordination.slow', '', true);
    EXECUTE capture_rest('delete', 'old_rows', TG_ARGV[2:], capture_kept(TG_ARGV[1])) USING TG_ARGV[0], E'%\\\\u%';
  END IF;
  RETURN NULL;
END $$;

-- Old and new rows are paired by position: both transition tables are filled in the same order. A join by key would
-- mispair rows whose keys change. Should the counts ever differ, rows are paired by key and what is left over is a
-- delete or a create.
CREATE FUNCTION :"schema".capture_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
DECLARE
  olds bigint;
  news bigint;
BEGIN
  SELECT (SELECT count(*) FROM old_rows), (SELECT count(*) FROM new_rows) INTO olds, news;
  IF olds = 0 AND news = 0 THEN
    RETURN NULL;
  END IF;
  IF olds = 1 AND news = 1 AND TG_NARGS = 3 AND TG_ARGV[1] = '' THEN
    INSERT INTO changes (relation, operation, key, old_key, before, after)
    SELECT TG_ARGV[0], 'update', k.key_is, nullif(k.key_was, k.key_is), k.before, k.after
    FROM (
      SELECT r.before, r.after,
             jsonb_build_object(TG_ARGV[2], r.before -> TG_ARGV[2]) AS key_was,
             jsonb_build_object(TG_ARGV[2], r.after -> TG_ARGV[2]) AS key_is
      FROM (
        SELECT CASE WHEN pg_column_size(o.*) <= 524288 THEN to_json(o.*) END AS before,
               CASE WHEN pg_column_size(n.*) <= 524288 THEN to_json(n.*) END AS after
        FROM old_rows o, new_rows n OFFSET 0
      ) r
      WHERE r.before::text NOT LIKE E'%\\\\u%' AND r.after::text NOT LIKE E'%\\\\u%'
      OFFSET 0
    ) k;
    IF FOUND THEN
      RETURN NULL;
    END IF;
  END IF;
  -- Planned for each statement, with its numbers of rows: a plan kept from small updates would be quadratic in large ones.
  EXECUTE format(
       'INSERT INTO changes (relation, operation, key, old_key, before, after) '
    || 'SELECT $1, CASE WHEN n.i IS NULL THEN ''delete'' WHEN o.i IS NULL THEN ''create'' ELSE ''update'' END, '
    || 'coalesce(n.k, o.k), CASE WHEN n.i IS NOT NULL THEN nullif(o.k, n.k) END, o.j, n.j '
    || 'FROM (SELECT row_number() OVER () AS i, %1$s AS k, CASE WHEN pg_column_size(o.*) <= 524288 THEN %2$s END AS j FROM old_rows o, %3$s) o '
    || '%4$s (SELECT row_number() OVER () AS i, %5$s AS k, CASE WHEN pg_column_size(n.*) <= 524288 THEN %6$s END AS j FROM new_rows n, %3$s) n '
    || 'ON %7$s ORDER BY n.i, o.i',
       capture_key_expression('o', TG_ARGV[2:]), capture_row_expression('o', capture_kept(TG_ARGV[1])),
       capture_absent(TG_ARGV[2:] || capture_kept(TG_ARGV[1])),
       CASE WHEN olds = news THEN 'JOIN' ELSE 'FULL JOIN' END,
       capture_key_expression('n', TG_ARGV[2:]), capture_row_expression('n', capture_kept(TG_ARGV[1])),
       CASE WHEN olds = news THEN 'o.i = n.i' ELSE 'o.k = n.k' END)
    USING TG_ARGV[0];
  RETURN NULL;
END $$;

-- For tables where a statement trigger would see rows too late or not at all.
CREATE FUNCTION :"schema".capture_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
DECLARE
  cap     CONSTANT int := 524288;
  keys    CONSTANT text[] := TG_ARGV[2:];
  kept    CONSTANT text[] := coalesce(nullif(TG_ARGV[1], ''), '{}');
  old_row json;
  new_row json;
  key_was jsonb;
  key_is  jsonb;
BEGIN
  IF TG_OP <> 'INSERT' THEN
    IF TG_ARGV[1] = '' AND pg_column_size(OLD) <= cap THEN
      old_row := to_json(OLD);
    END IF;
    IF old_row::text NOT LIKE E'%\\\\u%' THEN
      key_was := CASE WHEN cardinality(keys) > 0 THEN (SELECT jsonb_object_agg(k, old_row -> k) FROM unnest(keys) k) END;
    ELSE
      EXECUTE format('SELECT %s, CASE WHEN $2 THEN %s END FROM (SELECT ($1).*) AS o, %s',
                     capture_key_expression('o', keys), capture_row_expression('o', kept), capture_absent(keys || kept))
        INTO key_was, old_row USING OLD, pg_column_size(OLD) <= cap;
    END IF;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    IF TG_ARGV[1] = '' AND pg_column_size(NEW) <= cap THEN
      new_row := to_json(NEW);
    END IF;
    IF new_row::text NOT LIKE E'%\\\\u%' THEN
      key_is := CASE WHEN cardinality(keys) > 0 THEN (SELECT jsonb_object_agg(k, new_row -> k) FROM unnest(keys) k) END;
    ELSE
      EXECUTE format('SELECT %s, CASE WHEN $2 THEN %s END FROM (SELECT ($1).*) AS n, %s',
                     capture_key_expression('n', keys), capture_row_expression('n', kept), capture_absent(keys || kept))
        INTO key_is, new_row USING NEW, pg_column_size(NEW) <= cap;
    END IF;
  END IF;
  INSERT INTO changes (relation, operation, key, old_key, before, after)
  VALUES (TG_ARGV[0], CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
          CASE WHEN TG_OP = 'DELETE' THEN key_was ELSE key_is END,
          CASE WHEN TG_OP = 'UPDATE' THEN nullif(key_was, key_is) END, old_row, new_row);
  RETURN NULL;
END $$;

-- TRUNCATE of a partitioned table fires the triggers of the root first and then those of its partitions: the root's
-- trigger notes which partitions it stands for, with the file that each has from now on, so that a later TRUNCATE of one
-- of them in the same transaction is an event of its own.
CREATE FUNCTION :"schema".capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
  included CONSTANT text[] := coalesce(nullif(current_setting('coordination.truncated', true), ''), '{}')::text[];
  self     CONSTANT text := TG_RELID::text || ':' || coalesce(pg_relation_filenode(TG_RELID), 0);
BEGIN
  IF self = ANY (included) THEN
    PERFORM set_config('coordination.truncated', array_remove(included, self)::text, true);
    RETURN NULL;
  END IF;
  PERFORM set_config('coordination.truncated', (included || ARRAY(
      SELECT t.relid::oid::text || ':' || coalesce(pg_relation_filenode(t.relid), 0)
      FROM pg_partition_tree(TG_RELID) t WHERE t.level > 0
    ))::text, true)
  WHERE EXISTS (SELECT FROM pg_partition_tree(TG_RELID) t WHERE t.level > 0);
  INSERT INTO changes (relation, operation) VALUES (TG_ARGV[0], 'truncate');
  RETURN NULL;
END $$;

-- Only for inputs with wakeUps 'notify': equal payloads of one transaction collapse into one notification.
CREATE FUNCTION :"schema".capture_notify() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify(TG_ARGV[0], '');
  RETURN NULL;
END $$;

-- Whoever may attach these to a table of his own could write what he likes into the log.
REVOKE ALL ON FUNCTION :"schema".capture_insert_one_key() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_insert() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_update() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_delete_one_key() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_delete() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_row() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_truncate() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_notify() FROM PUBLIC;

-- A new owner must be allowed to create in the schema at the moment in which it becomes the owner.
GRANT USAGE, CREATE ON SCHEMA :"schema" TO coordination_capture;
ALTER FUNCTION :"schema".capture_key_expression(text, text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_absent(text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_row_expression(text, text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_kept(text) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_rest(text, text, text[], text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_insert_one_key() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_insert() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_update() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_delete_one_key() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_delete() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_row() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_truncate() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_notify() OWNER TO coordination_capture;
REVOKE CREATE ON SCHEMA :"schema" FROM coordination_capture;
GRANT INSERT ON :"schema".changes TO coordination_capture;

INSERT INTO :"schema".schema_versions AS v (package, version, compatible_with)
VALUES ('leader-input', 1, 1)
ON CONFLICT (package) DO UPDATE
   SET version = excluded.version, compatible_with = excluded.compatible_with, migrated_at = excluded.migrated_at;
