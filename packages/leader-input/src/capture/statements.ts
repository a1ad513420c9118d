import { quoteIdentifier, type Statement } from '@x/pg-session'
import { currentLineage } from '../log/statements.ts'

/** The statements of installing, looking after, and taking away capture. */
export interface CaptureStatements {
  /** What the catalog says of the tables meant. Parameters: names, LIKE patterns, our schema. */
  readonly tables: Statement
  /** Capture triggers on the tables and all their partitions. Parameters: oids of the tables, LIKE pattern of trigger names, our schema. */
  readonly triggers: Statement
  /** Functions whose owner could be abused by a table's owner. Parameters: our schema. */
  readonly unsafeFunctions: Statement
  /** Only one installation at a time in this schema; until the end of the transaction. Parameters: our schema. */
  readonly installLock: Statement
  /** What the log must hold for all inputs together. Parameters: location. */
  readonly union: Statement
  /** What this input has installed. Parameters: name. */
  readonly installed: Statement
  /** Which of these are tables that can be captured by themselves. Parameters: locations. */
  readonly capturable: Statement
  /** Parameters: name, location, operations, columns, notify. One row when something changed. */
  readonly putInput: Statement
  /** Parameters: name, location. */
  readonly dropInput: Statement
  /** A cursor that begins now; none if there is one. Parameters: name, bound of the numbers drawn, rows and age to keep. */
  readonly createCursor: Statement
  /** Parameters: name, rows and age to keep. */
  readonly setRetention: Statement
  /** Adds tables to what is still to be read. Parameters: name, locations. */
  readonly queueBackfill: Statement
  /** Parameters: name. */
  readonly dropCursor: Statement
  readonly dropParked: Statement
}

export function captureStatements(schema: string): CaptureStatements {
  const at = quoteIdentifier(schema)
  return {
    tables: {
      name: 'input_tables',
      text: `
        SELECT w.name, c.oid::text, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
               coalesce((SELECT string_agg(a.attname, chr(1) ORDER BY k.place)
                           FROM unnest(key.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                          WHERE k.place <= key.indnkeyatts), ''),
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate)::text,
               concat_ws(', ',
                 CASE WHEN EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhparent, h.inhrelid))
                           AND c.relkind = 'r' AND NOT c.relispartition THEN 'inheritance' END,
                 CASE WHEN EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid IN (SELECT c.oid UNION ALL SELECT relid FROM pg_partition_tree(c.oid)))
                      THEN 'target of logical replication' END,
                 (SELECT 'trigger ' || min(t.tgname) FROM pg_trigger t
                   WHERE t.tgrelid IN (SELECT c.oid UNION ALL SELECT relid FROM pg_partition_tree(c.oid))
                     AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 1 = 1 AND t.tgtype & 66 = 0
                     AND t.tgname NOT LIKE '0\\_%' HAVING count(*) > 0),
                 (SELECT 'cascade of ' || min(f.conname) FROM pg_constraint f
                   WHERE f.confrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0
                     AND (f.confupdtype IN ('c', 'n', 'd') OR f.confdeltype IN ('c', 'n', 'd')) HAVING count(*) > 0)),
               (SELECT min(p.relid::text) FROM pg_partition_tree(c.oid) p JOIN pg_class f ON f.oid = p.relid WHERE f.relkind = 'f'),
               coalesce((SELECT string_agg(h.inhrelid::regclass::text, ', ') FROM pg_inherits h WHERE h.inhparent = c.oid AND c.relkind = 'r'), ''),
               pg_table_is_visible(c.oid)::text, c.relispartition::text
          FROM (SELECT name, NULL AS pattern FROM unnest($1::text[]) name
                UNION ALL SELECT NULL, pattern FROM unnest($2::text[]) pattern) w
          JOIN pg_class c
            ON c.relkind IN ('r', 'p', 'f', 'v', 'm')
           AND (w.pattern IS NULL OR (c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'))
          JOIN pg_namespace n
            ON n.oid = c.relnamespace AND n.nspname <> $3 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
          LEFT JOIN LATERAL (
            SELECT i.indkey, i.indnkeyatts FROM pg_index i
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
               AND (i.indisprimary OR (i.indimmediate AND i.indnkeyatts = i.indnatts AND NOT EXISTS (
                      SELECT FROM unnest(i.indkey::int2[]) k JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k WHERE NOT a.attnotnull)))
             ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid LIMIT 1) key ON true
         WHERE n.nspname || '.' || c.relname = w.name OR (c.relname = w.name AND pg_table_is_visible(c.oid))
            OR n.nspname || '.' || c.relname LIKE w.pattern OR (c.relname LIKE w.pattern AND pg_table_is_visible(c.oid))
         ORDER BY n.nspname, c.relname`,
    },
    triggers: {
      name: 'input_triggers',
      text: `
        SELECT root.oid::text, part.relid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind::text,
               t.tgname, p.proname, t.tgtype::text, encode(t.tgargs, 'hex'), t.tgenabled::text, (t.tgparentid <> 0)::text
          FROM unnest($1::oid[]) AS root (oid)
          CROSS JOIN LATERAL (SELECT root.oid AS relid UNION SELECT relid FROM pg_partition_tree(root.oid)) part
          JOIN pg_class c ON c.oid = part.relid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          -- By the function's schema, too: the name of another installation may begin with ours.
          LEFT JOIN pg_trigger t ON t.tgrelid = part.relid AND t.tgname LIKE $2 AND NOT t.tgisinternal
               AND t.tgfoid IN (SELECT f.oid FROM pg_proc f JOIN pg_namespace s ON s.oid = f.pronamespace WHERE s.nspname = $3)
          LEFT JOIN pg_proc p ON p.oid = t.tgfoid
         ORDER BY root.oid, part.relid, t.tgname`,
    },
    unsafeFunctions: {
      name: 'input_unsafe_functions',
      text: `
        SELECT p.proname, r.rolname,
               CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolname = current_user THEN 'is the role that runs this'
                    WHEN r.rolcanlogin THEN 'can log in' WHEN NOT p.prosecdef THEN 'does not matter: the function is not SECURITY DEFINER' END
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
         WHERE n.nspname = $1 AND p.prorettype = 'trigger'::regtype AND p.proname LIKE 'capture\\_%'
           AND (r.rolsuper OR r.rolname = current_user OR r.rolcanlogin OR NOT p.prosecdef)`,
    },
    installLock: {
      name: 'input_install_lock',
      text: `SELECT pg_advisory_xact_lock(hashtextextended('coordination leader-input install ' || $1, 0))`,
    },
    union: {
      name: 'input_union',
      text: `
        SELECT coalesce((SELECT string_agg(DISTINCT o, ',') FROM ${at}.inputs i, unnest(i.operations) o WHERE i.relation = $1), ''),
               (SELECT CASE WHEN count(*) = 1 THEN min(array_to_json(i.columns)::text) END FROM ${at}.inputs i WHERE i.relation = $1),
               (SELECT coalesce(bool_or(i.notify), false)::text FROM ${at}.inputs i WHERE i.relation = $1)`,
    },
    installed: {
      name: 'input_installed',
      text: `SELECT relation, array_to_string(operations, ','), array_to_json(columns)::text FROM ${at}.inputs WHERE name = $1 ORDER BY relation`,
    },
    capturable: {
      name: 'input_capturable',
      text: `
        SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname || '.' || c.relname = ANY ($1::text[])
           AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'`,
    },
    putInput: {
      name: 'input_put',
      text: `
        INSERT INTO ${at}.inputs AS i (name, relation, operations, columns, notify) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (name, relation) DO UPDATE SET operations = excluded.operations, columns = excluded.columns, notify = excluded.notify
         WHERE (i.operations, i.columns, i.notify) IS DISTINCT FROM (excluded.operations, excluded.columns, excluded.notify)
        RETURNING (xmax::text = '0')::text`,
    },
    dropInput: {
      name: 'input_drop',
      text: `DELETE FROM ${at}.inputs WHERE name = $1 AND relation = $2 RETURNING relation`,
    },
    createCursor: {
      name: 'input_create_cursor',
      text: `
        INSERT INTO ${at}.cursors (name, snap_prev, lo, lineage, system_identifier, max_rows, max_age_ms)
        SELECT $1, pg_current_snapshot(), $2::bigint, (${currentLineage(schema)}), s.system_identifier, $3::bigint, $4::bigint
          FROM pg_control_system() s
         -- ON CONFLICT alone would wait for whoever is updating the row: the batch of a leader that may stand still.
         WHERE NOT EXISTS (SELECT FROM ${at}.cursors WHERE name = $1)
        ON CONFLICT (name) DO NOTHING RETURNING name`,
    },
    setRetention: {
      name: 'input_set_retention',
      text: `UPDATE ${at}.cursors SET max_rows = $2::bigint, max_age_ms = $3::bigint
              WHERE name = $1 AND (max_rows, max_age_ms) IS DISTINCT FROM ($2::bigint, $3::bigint) RETURNING name`,
    },
    queueBackfill: {
      name: 'input_queue_backfill',
      text: `
        UPDATE ${at}.cursors SET revision = revision + 1, backfill = jsonb_build_object(
                 'tables', coalesce(backfill -> 'tables', '[]') || to_jsonb($2::text[]),
                 'after', coalesce(backfill -> 'after', 'null'), 'chunks', coalesce(backfill -> 'chunks', '0'))
         WHERE name = $1`,
    },
    dropCursor: { name: 'input_drop_cursor', text: `DELETE FROM ${at}.cursors WHERE name = $1 RETURNING name` },
    dropParked: { name: 'input_drop_parked', text: `DELETE FROM ${at}.parked_changes WHERE input = $1` },
  }
}
