\if :{?schema}
\else
  \set schema coordination
\endif

-- Takes the capture triggers of all tables with it. The role stays: it belongs to the server, and other databases may use it.
DROP FUNCTION IF EXISTS :"schema".capture_insert() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_update() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_delete() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_row() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_truncate() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_notify() CASCADE;
DROP FUNCTION IF EXISTS :"schema".capture_key_expression(text, text[]);
DROP FUNCTION IF EXISTS :"schema".capture_absent(text[]);
DROP FUNCTION IF EXISTS :"schema".capture_columns(json, text[]);
DROP TABLE IF EXISTS :"schema".parked_changes;
DROP TABLE IF EXISTS :"schema".cursors;
DROP TABLE IF EXISTS :"schema".inputs;
DROP TABLE IF EXISTS :"schema".changes;
DELETE FROM :"schema".schema_versions WHERE package = 'leader-input';
