-- Takes back 0001_fencing. Tokens begin again at 1 afterwards: stop every holder of a lock first.
\if :{?schema}
\else
  \set schema coordination
\endif

DROP TABLE :"schema".fences;
DROP FUNCTION :"schema".next_fencing_token();
DROP FUNCTION :"schema".fencing_rebase();
DROP TABLE :"schema".fencing;
DROP SEQUENCE :"schema".fencing_tokens;

DELETE FROM :"schema".schema_versions WHERE package = 'fencing';

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
