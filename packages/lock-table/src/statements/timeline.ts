import type { Statement } from '@x/pg-session'
import type { TableNames } from '../names.ts'
import { durable, leftMs, ms, named } from './sql.ts'

export const timelineStatements = (n: TableNames): Record<'ground' | 'raiseTtl' | 'observe', Statement> => {
  const statement = named(n)
  return {
    /**
     * Whether the functions of the migration are there, the longest ttl in use, and whether the table was adopted. `$1`
     * schema, `$2` names of the functions, `$3` table.
     */
    ground: statement(
      'ground',
      `SELECT (
  SELECT count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = $1 AND p.proname = ANY ($2::text[])
)::text, t.max_ttl_ms::text, (
  SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  WHERE s.nspname = $1 AND c.relname = $3 AND obj_description(c.oid, 'pg_class') LIKE '%adopted%'
)::text FROM ${n.timeline} t`,
    ),
    /** Makes the longest ttl known before the first lease of that length is granted. */
    raiseTtl: statement(
      'raise_ttl',
      `WITH ${durable} UPDATE ${n.timeline} SET max_ttl_ms = $1 FROM durable WHERE max_ttl_ms < $1`,
    ),
    /** Notices a failover, once for all lockers, and tells for how many milliseconds nothing is granted. */
    observe: statement(
      'observe',
      `WITH ${durable},
fence AS MATERIALIZED (SELECT f.base FROM durable, (SELECT ${n.fencingBase} AS base) f),
moved AS (
  UPDATE ${n.timeline} t SET base = f.base, quiet_until = clock_timestamp() + ${ms('t.max_ttl_ms')}
  FROM fence f WHERE t.base <> f.base
  RETURNING t.quiet_until
)
SELECT CASE WHEN quiet_until > clock_timestamp() THEN ${leftMs('quiet_until')} ELSE '0' END
FROM (SELECT COALESCE((SELECT quiet_until FROM moved), t.quiet_until) AS quiet_until FROM ${n.timeline} t) t`,
    ),
  }
}
