-- package: lock-table
\if :{?schema}
\else
  \set schema coordination
\endif

DROP VIEW IF EXISTS :"schema".active_locks;
DROP FUNCTION IF EXISTS :"schema".lock_hand_off(text[], text[], bigint[], bigint, bigint, boolean, text);
DROP FUNCTION IF EXISTS :"schema".lock_renew_shares(text[], text[], bigint[], bigint[], bigint, boolean);
DROP FUNCTION IF EXISTS :"schema".lock_renew(text[], bigint[], text, bigint[], bigint, boolean);
DROP FUNCTION IF EXISTS :"schema".lock_release(text[], bigint[], text, text);
DROP FUNCTION IF EXISTS :"schema".lock_grant_alike(text[], text, bigint, text, text, text, bigint, boolean);
DROP FUNCTION IF EXISTS :"schema".lock_grant(text[], text[], bigint[], text[], text, text, bigint, boolean);
DROP TABLE IF EXISTS :"schema".lock_timeline, :"schema".lock_waiters, :"schema".lock_sessions, :"schema".lock_shares;
DROP SEQUENCE IF EXISTS :"schema".lock_tickets;

-- A classic table that was adopted gets its six columns back and stays, with its rows; a table of our own goes.
SELECT set_config('coordination.schema', :'schema', true);
DO $$
DECLARE
  locks constant text := format('%I.locks', current_setting('coordination.schema'));
BEGIN
  IF to_regclass(locks) IS NULL THEN
    RETURN;
  END IF;
  IF obj_description(to_regclass(locks), 'pg_class') LIKE '%adopted%' THEN
    -- Its readers know is_acquired only: what nobody holds any more must not look held for ever.
    EXECUTE format('UPDATE %s SET is_acquired = false WHERE expires_at <= clock_timestamp()', locks);
    EXECUTE format('ALTER TABLE %s DROP COLUMN expires_at, DROP COLUMN fencing_token, DROP COLUMN metadata, DROP COLUMN line,
      DROP COLUMN served, DROP COLUMN shared, DROP COLUMN released_at, RESET (fillfactor)', locks);
    EXECUTE format('COMMENT ON TABLE %s IS NULL', locks);
  ELSE
    EXECUTE format('DROP TABLE %s', locks);
  END IF;
END $$;

DELETE FROM :"schema".schema_versions WHERE package = 'lock-table';

-- The last package to go takes the schema along, unless something else lives in it.
SELECT set_config('coordination.schema', :'schema', true);
DO $$
DECLARE
  emptied boolean;
BEGIN
  EXECUTE format('SELECT NOT EXISTS (SELECT FROM %I.schema_versions)', current_setting('coordination.schema')) INTO emptied;
  IF emptied THEN
    EXECUTE format('DROP TABLE %I.schema_versions', current_setting('coordination.schema'));
    BEGIN
      EXECUTE format('DROP SCHEMA %I', current_setting('coordination.schema'));
    EXCEPTION WHEN dependent_objects_still_exist THEN
      NULL;
    END;
  END IF;
END
$$;
