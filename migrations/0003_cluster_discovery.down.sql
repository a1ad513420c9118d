-- Takes back 0003_cluster_discovery. Stop every node first: none can beat without these tables.
\if :{?schema}
\else
  \set schema coordination
\endif

DROP TABLE :"schema".cluster_sweepers;
DROP TABLE :"schema".node_beats;
DROP TABLE :"schema".nodes;
DROP TABLE :"schema".cluster;

DELETE FROM :"schema".schema_versions WHERE package = 'cluster-discovery';

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
