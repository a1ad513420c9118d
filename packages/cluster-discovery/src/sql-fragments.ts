import type { Statement } from '@x/pg-session'

/** The tables of one schema, and how a statement on them is called. */
export interface SchemaTables {
  readonly cluster: string
  readonly nodes: string
  readonly beats: string
  readonly sweepers: string
  /** @param name without what tells one schema from another: a name means one text per connection */
  statement(name: string, text: string): Statement
}

export function schemaTables(quotedSchema: string, tag: string): SchemaTables {
  return {
    cluster: `${quotedSchema}.cluster`,
    nodes: `${quotedSchema}.nodes`,
    beats: `${quotedSchema}.node_beats`,
    sweepers: `${quotedSchema}.cluster_sweepers`,
    statement: (name, text) => ({ name: `cluster_${name}_${tag}`, text }),
  }
}

/** Characters that a notification may have, less one: `pg_notify` wants payloads shorter than 8,000 bytes. */
const longestPayload = 7_999

/** A node as readers get it, whether by a read or by a notification; parsed in record.ts. */
export const record = (n: string): string => `json_build_array(
    ${n}.id, ${n}.incarnation::text, ${n}.name, ${n}.address, ${n}.metadata, ${n}.state, ${n}.cause, ${n}.version::text,
    floor(extract(epoch FROM ${n}.joined_at) * 1000)::bigint, ${n}.previous_incarnation::text, ${n}.previous_end,
    ${n}.last_death::text)`

/** Microseconds as text: a timestamp that survives any DateStyle and any type parser. */
export const micros = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::bigint::text`

/**
 * Names the server that answers by its start, for comparison only. After a failover another one answers, which may have missed
 * versions and given their numbers to other changes; nothing in the tables tells the one history from the other.
 */
export const server = 'extract(epoch FROM pg_postmaster_start_time())::text'

export const milliseconds = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`

/**
 * The end of each statement that changes members: tells the channel of the new version, with the records themselves where
 * they fit. PostgreSQL delivers notifications in commit order, which is version order here.
 */
export const announce = (from: string, channel: string): string => `
  told AS (
    SELECT json_build_object('v', max(version)::text, 'n', json_agg(${record(from)}))::text AS full,
           json_build_object('v', max(version)::text)::text AS short
    FROM ${from} HAVING count(*) > 0
  ),
  sent AS (
    SELECT pg_notify(${channel}, CASE WHEN octet_length("full") <= ${longestPayload} THEN "full" ELSE "short" END) FROM told
  )`

/**
 * Whether a process looks as if it had ended. The server drops the marker with the listener's connection: whoever gets the
 * lock, for the length of the statement, knows that nobody holds it (without a list of all locks of the server). On a
 * half-open line the node does not know that yet: its beats go on, rarer than the looks. A process that ended has lost the
 * connection of its last beat too; that of a pooler stays, so it counts for half a ttl only.
 */
export const crashed = (b: string): string => `CASE
        WHEN ${b}.marker IS NULL OR NOT pg_try_advisory_xact_lock(${b}.marker) THEN false
        ELSE ${b}.at < clock_timestamp() - ${milliseconds(`${b}.ttl_ms`)} / 2
          OR NOT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(${b}.backend))
      END`
