-- Fencing tokens: numbers that only ever rise, and the record of the highest one seen for each resource.
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

-- CACHE 1: with a larger cache a session would hand out numbers that it reserved before somebody else's later ones.
CREATE SEQUENCE :"schema".fencing_tokens AS bigint MAXVALUE 281474976710655 CACHE 1 NO CYCLE;

-- token = (epoch_offset + timeline) * 2^48 + number. Each promotion of a standby raises the timeline, so a sequence that
-- lost its last numbers with the old primary still gives higher tokens. pg_upgrade and a dump restored elsewhere begin
-- again at timeline 1 under a new system identifier, a dump restored in place has a new table: then the offset is raised.
CREATE TABLE :"schema".fencing (
  one_row           boolean     PRIMARY KEY DEFAULT true CHECK (one_row),
  system_identifier text,
  table_oid         oid         NOT NULL DEFAULT 0,
  timeline          integer     NOT NULL DEFAULT 0,
  epoch_offset      integer     NOT NULL DEFAULT 0,
  -- The server process that the base was worked out for. While a process lives, its timeline and identifier stand:
  -- a primary that becomes a standby has been restarted.
  server_started_at timestamptz NOT NULL DEFAULT '-infinity',
  base              bigint      NOT NULL DEFAULT 0
);

INSERT INTO :"schema".fencing DEFAULT VALUES;

-- Works out the base for this server and stores it. Called only when the stored one belongs to another server process.
CREATE FUNCTION :"schema".fencing_rebase() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
  stored     record;
  identifier text;
  wal        integer := 0;
  epoch      integer;
BEGIN
  SELECT f.*, f.tableoid INTO stored FROM fencing AS f FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the row of table fencing is gone, and with it the knowledge of how high tokens have been'
      USING HINT = 'Restore it from a backup, or insert one whose epoch_offset is above every token ever seen / 2^48.';
  END IF;
  IF stored.server_started_at = pg_postmaster_start_time() AND stored.table_oid = stored.tableoid THEN
    RETURN stored.base;
  END IF;

  -- Not every server offers these two; a grant must not fail for it. The price is said in the manual: without a
  -- timeline, tokens may repeat after failover to a standby that missed the last commits.
  BEGIN
    wal := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
  EXCEPTION WHEN OTHERS THEN
    wal := 0;
  END;
  BEGIN
    identifier := (SELECT c.system_identifier::text FROM pg_control_system() AS c);
  EXCEPTION WHEN OTHERS THEN
    identifier := NULL;
  END;

  identifier := coalesce(identifier, stored.system_identifier);
  IF stored.table_oid IN (0, stored.tableoid) AND coalesce(stored.system_identifier, identifier) IS NOT DISTINCT FROM identifier
  THEN
    wal := greatest(wal, stored.timeline);
  ELSE
    stored.epoch_offset := stored.epoch_offset + stored.timeline + CASE wal WHEN 0 THEN 1 ELSE 0 END;
  END IF;
  epoch := stored.epoch_offset + wal;
  IF epoch >= 32768 THEN
    RAISE EXCEPTION 'fencing tokens are used up: offset % plus timeline % does not fit into 15 bits',
      stored.epoch_offset, wal;
  END IF;

  UPDATE fencing
     SET system_identifier = identifier,
         table_oid = stored.tableoid,
         timeline = wal,
         epoch_offset = stored.epoch_offset,
         server_started_at = pg_postmaster_start_time(),
         base = epoch::bigint << 48;
  RETURN epoch::bigint << 48;
END
$$;

-- The next token, for statements that draw one; those that draw many take the base once and nextval for each.
CREATE FUNCTION :"schema".next_fencing_token() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, :"schema", pg_temp
AS $$
BEGIN
  RETURN coalesce(
           (SELECT base FROM fencing WHERE server_started_at = pg_postmaster_start_time() AND table_oid = tableoid),
           fencing_rebase()
         ) + nextval('fencing_tokens');
END
$$;

-- The highest token seen for a resource; a writer with a lower one comes too late.
CREATE TABLE :"schema".fences (
  resource text        PRIMARY KEY,
  token    bigint      NOT NULL,
  seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO :"schema".schema_versions AS v (package, version, compatible_with)
VALUES ('fencing', 1, 1)
ON CONFLICT (package) DO UPDATE
   SET version = excluded.version, compatible_with = excluded.compatible_with, migrated_at = excluded.migrated_at;
