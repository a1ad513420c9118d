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
  source    text[]      NOT NULL,
  operation text        NOT NULL,
  before    json,
  after     json,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  lineage   int         NOT NULL DEFAULT 1
) PARTITION BY LIST (((seq >> 20) % 16));
COMMENT ON TABLE :"schema".changes IS 'Captured changes; 16 blocks of 2^20 sequence numbers used in turn, so that pruning is a TRUNCATE';
COMMENT ON COLUMN :"schema".changes.xid IS 'The top-level transaction, under savepoints too';
COMMENT ON COLUMN :"schema".changes.source IS 'As the trigger was told: 0 is schema and name of the table, of the root for partitions; from 1 on the columns of its key at that time';
COMMENT ON COLUMN :"schema".changes.after IS 'The row as an object; an array with its key alone, or null without one, when the row was larger than 512 KiB';
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
  key       json,
  old_key   json,
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
CREATE FUNCTION :"schema".capture_object(alias text, columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN cardinality(columns) = 0 THEN 'NULL::json' ELSE
    format('(SELECT json_build_object(%s) FROM (SELECT %I.*) AS present)',
           (SELECT string_agg(format('%L, %I', c, c), ', ') FROM unnest(columns) c), alias) END
$$;
CREATE FUNCTION :"schema".capture_absent(columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('(SELECT %s) AS absent',
                coalesce((SELECT string_agg(DISTINCT format('NULL::text AS %I', c), ', ') FROM unnest(columns) c), 'NULL'))
$$;

-- What the log holds of a row: all of it or the columns that are kept, and its key alone when it is too large.
CREATE FUNCTION :"schema".capture_document(alias text, keys text[], kept text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, :"schema", pg_temp AS $$
  SELECT format('CASE WHEN pg_column_size(%I.*) <= 524288 THEN %s ELSE json_build_array(%s) END', alias,
                CASE WHEN cardinality(kept) = 0 THEN format('to_json(%I.*)', alias) ELSE capture_object(alias, kept) END,
                capture_object(alias, keys))
$$;

-- The statements of what is not usual. They are planned each time, with the numbers of rows that there are: a plan kept from
-- small updates would be quadratic in large ones. Their parameter is the source.
CREATE FUNCTION :"schema".capture_rows(operation text, keys text[], kept text[], only_large boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, :"schema", pg_temp AS $$
  SELECT format('INSERT INTO changes (source, operation, %s) SELECT $1, %L, %s FROM %I r, %s WHERE NOT %L OR pg_column_size(r.*) > 524288',
                CASE operation WHEN 'create' THEN 'after' ELSE 'before' END, operation, capture_document('r', keys, kept),
                CASE operation WHEN 'create' THEN 'new_rows' ELSE 'old_rows' END, capture_absent(keys || kept), only_large)
$$;
-- Old and new rows are paired by position: both transition tables are filled in the same order. A join by key would
-- mispair rows whose keys change. Should the counts ever differ, rows are paired by key and what is left over is a
-- delete or a create.
CREATE FUNCTION :"schema".capture_pairs(keys text[], kept text[], as_many boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, :"schema", pg_temp AS $$
  SELECT format(
       'INSERT INTO changes (source, operation, before, after) '
    || 'SELECT $1, CASE WHEN n.i IS NULL THEN ''delete'' WHEN o.i IS NULL THEN ''create'' ELSE ''update'' END, o.j, n.j '
    || 'FROM (SELECT row_number() OVER () AS i, %1$s AS k, %2$s AS j FROM old_rows o, %3$s) o '
    || '%4$s (SELECT row_number() OVER () AS i, %5$s AS k, %6$s AS j FROM new_rows n, %3$s) n '
    || 'ON %7$s ORDER BY n.i, o.i',
       CASE WHEN as_many THEN 'NULL' ELSE capture_object('o', keys) || '::jsonb' END, capture_document('o', keys, kept),
       capture_absent(keys || kept), CASE WHEN as_many THEN 'JOIN' ELSE 'FULL JOIN' END,
       CASE WHEN as_many THEN 'NULL' ELSE capture_object('n', keys) || '::jsonb' END, capture_document('n', keys, kept),
       CASE WHEN as_many THEN 'o.i = n.i' ELSE 'o.k = n.k' END)
$$;

-- Parameters: source, old row, new row.
CREATE FUNCTION :"schema".capture_one(trigger_operation text, keys text[], kept text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, :"schema", pg_temp AS $$
  SELECT format('INSERT INTO changes (source, operation, before, after) SELECT $1, %L, %s, %s',
                CASE trigger_operation WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
                CASE WHEN trigger_operation <> 'INSERT' THEN one.old ELSE 'NULL' END,
                CASE WHEN trigger_operation <> 'DELETE' THEN one.new ELSE 'NULL' END)
  FROM (SELECT format('(SELECT %s FROM (SELECT ($2).*) r, %s)', document, absent) AS old,
               format('(SELECT %s FROM (SELECT ($3).*) r, %s)', document, absent) AS new
        FROM (SELECT capture_document('r', keys, kept) AS document, capture_absent(keys || kept) AS absent) d) one
$$;

-- The trigger functions. Arguments: location, then the key columns, which is what the log calls the source. They are
-- arguments because looking them up in the catalog for each statement halves the rate of small writes, and the log has them
-- because a key is not taken out of its row here: whoever reads the change has the row. Whoever writes it would pay for
-- that, and JSON operators refuse a text with a \u that stands for no character, which would be the user's write.
-- alias.* and not alias, and variables before columns: the user's columns may have any name.
-- json and not jsonb for the rows: jsonb refuses "\u0000" and 1e400000.
-- The session's formats are fixed, or the text of one key would differ from writer to writer. (To look at them first, and
-- set them only where they differ, takes longer.)
-- Each operator, function and subscript of a statement is set up anew each time that it runs, which costs more than what
-- most of them then do: none is needless, and that is why tables of which only some columns are kept have a function of their
-- own. RETURN NEW, which the server looks at as little as at NULL, has no expression.
-- A row that is too large leaves a mark in a setting instead of costing each statement a query of its own that looks for it.
CREATE FUNCTION :"schema".capture_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO changes (source, operation, after)
  SELECT TG_ARGV, 'create', to_json(n.*) FROM new_rows n
  WHERE CASE WHEN pg_column_size(n.*) <= 524288 THEN true ELSE set_config('coordination.large', 'some', true) IS NULL END;
  IF current_setting('coordination.large', true) = 'some' THEN
    PERFORM set_config('coordination.large', '', true);
    EXECUTE capture_rows('create', TG_ARGV[1:], '{}', true) USING TG_ARGV;
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION :"schema".capture_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO changes (source, operation, before)
  SELECT TG_ARGV, 'delete', to_json(o.*) FROM old_rows o
  WHERE CASE WHEN pg_column_size(o.*) <= 524288 THEN true ELSE set_config('coordination.large', 'some', true) IS NULL END;
  IF current_setting('coordination.large', true) = 'some' THEN
    PERFORM set_config('coordination.large', '', true);
    EXECUTE capture_rows('delete', TG_ARGV[1:], '{}', true) USING TG_ARGV;
  END IF;
  RETURN NEW;
END $$;

-- One row is the usual update, and every pair of an old and a new row is the one pair then: each new row was an old one, while
-- a trigger may have dropped it on its way to another partition. What does not fit is counted.
CREATE FUNCTION :"schema".capture_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  INSERT INTO changes (source, operation, before, after)
  SELECT TG_ARGV, 'update', to_json(o.*), to_json(n.*) FROM old_rows o, new_rows n
  WHERE pg_column_size(o.*) <= 524288 AND pg_column_size(n.*) <= 524288
    AND NOT EXISTS (SELECT FROM old_rows OFFSET 1);
  IF FOUND THEN
    RETURN NEW;
  END IF;
  IF EXISTS (SELECT FROM old_rows) THEN
    EXECUTE capture_pairs(TG_ARGV[1:], '{}', (SELECT count(*) FROM old_rows) = (SELECT count(*) FROM new_rows)) USING TG_ARGV;
  END IF;
  RETURN NEW;
END $$;

-- For tables where a statement trigger would see rows too late or not at all. The row that there is not is null.
CREATE FUNCTION :"schema".capture_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
BEGIN
  IF greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 524288 THEN
    INSERT INTO changes (source, operation, before, after)
    VALUES (TG_ARGV, CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END, to_json(OLD), to_json(NEW));
  ELSE
    EXECUTE capture_one(TG_OP, TG_ARGV[1:], '{}') USING TG_ARGV, OLD, NEW;
  END IF;
  RETURN NULL;
END $$;

-- For tables of which only some columns are kept, besides the key. Further arguments: an empty one, then those columns.
CREATE FUNCTION :"schema".capture_columns() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, :"schema", pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET extra_float_digits = 1 SET bytea_output = 'hex' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
DECLARE
  mark   CONSTANT int    := array_position(TG_ARGV, '');
  keys   CONSTANT text[] := TG_ARGV[1:mark - 1];
  kept   CONSTANT text[] := TG_ARGV[mark + 1:] || ARRAY(SELECT k FROM unnest(keys) k WHERE k <> ALL (TG_ARGV[mark + 1:]));
  -- A slice begins at 1.
  source CONSTANT text[] := format('[0:%s]=%s', mark - 1, TG_ARGV[:mark - 1]);
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    EXECUTE capture_one(TG_OP, keys, kept) USING source, OLD, NEW;
  ELSIF TG_OP <> 'UPDATE' THEN
    EXECUTE capture_rows(CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE 'delete' END, keys, kept, false) USING source;
  ELSIF EXISTS (SELECT FROM old_rows) THEN
    EXECUTE capture_pairs(keys, kept, (SELECT count(*) FROM old_rows) = (SELECT count(*) FROM new_rows)) USING source;
  END IF;
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
  INSERT INTO changes (source, operation) VALUES (TG_ARGV, 'truncate');
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
REVOKE ALL ON FUNCTION :"schema".capture_insert() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_update() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_delete() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_row() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_columns() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_truncate() FROM PUBLIC;
REVOKE ALL ON FUNCTION :"schema".capture_notify() FROM PUBLIC;

-- A new owner must be allowed to create in the schema at the moment in which it becomes the owner.
GRANT USAGE, CREATE ON SCHEMA :"schema" TO coordination_capture;
ALTER FUNCTION :"schema".capture_object(text, text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_absent(text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_document(text, text[], text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_rows(text, text[], text[], boolean) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_pairs(text[], text[], boolean) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_one(text, text[], text[]) OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_insert() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_update() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_delete() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_row() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_columns() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_truncate() OWNER TO coordination_capture;
ALTER FUNCTION :"schema".capture_notify() OWNER TO coordination_capture;
REVOKE CREATE ON SCHEMA :"schema" FROM coordination_capture;
GRANT INSERT ON :"schema".changes TO coordination_capture;

INSERT INTO :"schema".schema_versions AS v (package, version, compatible_with)
VALUES ('leader-input', 1, 1)
ON CONFLICT (package) DO UPDATE
   SET version = excluded.version, compatible_with = excluded.compatible_with, migrated_at = excluded.migrated_at;
