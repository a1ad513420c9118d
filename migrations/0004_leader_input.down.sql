\if :{?schema}
\else
  \set schema coordination
\endif

-- Takes the capture triggers of all tables with it. The role stays: it belongs to the server, and other databases may use it.
DROP FUNCTION IF EXISTS :"schema".capture_insert() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_update() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_delete() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_row() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_columns() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_truncate() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_notify() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_object(text, text[]);
DROP FUNCTION IF EXISTS :"schema".capture_absent(text[]);
DROP FUNCTION IF EXISTS :"schema".capture_document(text, text[], text[]);
DROP FUNCTION IF EXISTS :"schema".capture_rows(text, text[], text[], boolean);
DROP FUNCTION IF EXISTS :"schema".capture_pairs(text[], text[], boolean);
DROP FUNCTION IF EXISTS :"schema".capture_one(text, text[], text[]);
REVOKE ALL ON SCHEMA :"schema" FROM coordination_capture;
DROP TABLE IF EXISTS :"schema".parked_changes;
DROP TABLE IF EXISTS :"schema".cursors;
DROP TABLE IF EXISTS :"schema".inputs;
DROP TABLE IF EXISTS :"schema".changes;
DELETE FROM :"schema".schema_versions WHERE package = 'leader-input';

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
