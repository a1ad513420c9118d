import type { Pool } from 'pg'

/**
 * Everything in a schema that two ways of creating it could make different, one line each, owners and oids aside. Text that
 * holds the schema's name is compared with a placeholder in its place.
 */
export const catalogOf = async (pool: Pool, schema: string): Promise<readonly string[]> => {
  const { rows } = await pool.query<{ line: string }>(
    `WITH home AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
     SELECT format('%s %s %s %s %s', c.relkind, c.relname, c.relpersistence, c.reloptions, obj_description(c.oid, 'pg_class')) AS line
       FROM pg_class c JOIN home ON c.relnamespace = home.oid WHERE c.relkind <> 'i'
     UNION ALL
     SELECT format('column %s.%s %s %s %s %s %s', c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
                   a.attnotnull, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN home ON c.relnamespace = home.oid
       LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attnum > 0 AND NOT a.attisdropped
     UNION ALL
     SELECT format('constraint %s %s', o.conname, pg_get_constraintdef(o.oid))
       FROM pg_constraint o JOIN home ON o.connamespace = home.oid
     UNION ALL
     SELECT pg_get_indexdef(i.indexrelid)
       FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN home ON c.relnamespace = home.oid
     UNION ALL
     SELECT pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') FROM pg_proc p JOIN home ON p.pronamespace = home.oid
     UNION ALL
     SELECT format('sequence %s %s %s %s %s', c.relname, s.seqmax, s.seqcache, s.seqcycle, s.seqstart)
       FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN home ON c.relnamespace = home.oid
     UNION ALL
     SELECT pg_get_viewdef(c.oid) FROM pg_class c JOIN home ON c.relnamespace = home.oid WHERE c.relkind = 'v'
     UNION ALL
     SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN home ON c.relnamespace = home.oid
      WHERE NOT t.tgisinternal
     UNION ALL
     SELECT format('acl %s %s', c.relname, c.relacl) FROM pg_class c JOIN home ON c.relnamespace = home.oid
     ORDER BY 1`,
    [schema],
  )
  return rows.map(({ line }) => line)
}

/** What is recorded as applied. */
export const versionsIn = async (pool: Pool, schema: string): Promise<readonly unknown[]> =>
  (
    await pool.query({
      text: `SELECT package, version, compatible_with FROM "${schema.replaceAll('"', '""')}".schema_versions ORDER BY 1`,
      rowMode: 'array',
    })
  ).rows
