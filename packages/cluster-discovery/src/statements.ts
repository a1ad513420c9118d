import type { Statement } from '@x/pg-session'
import { announce, milliseconds, record, type SchemaTables, schemaTables, server } from './sql-fragments.ts'
import { type SweeperStatements, sweeperStatements } from './sweeper-statements.ts'

/**
 * All SQL of this package; that of the sweeper and its standbys stands in sweeper-statements.ts. Each statement is a
 * transaction of its own, so that it works through a transaction pooler, and answers with one column `answer` of JSON text,
 * so that type parsers which the application registered do not touch it.
 *
 * Lock order everywhere: the cluster's row, then nodes, then beats. What a data-modifying statement waits for on the
 * cluster's row, it sees as of the newest commit (READ COMMITTED follows the row), so `version + 1` is never given twice.
 */
export type ClusterStatements = MemberStatements & SweeperStatements

/** The statements of one schema. */
export function clusterStatements(quotedSchema: string, tag: string): ClusterStatements {
  const tables = schemaTables(quotedSchema, tag)
  return { ...memberStatements(tables), ...sweeperStatements(tables) }
}

/** What a member says of itself, and reads of the others. */
type MemberStatements = Readonly<
  Record<'join' | 'beat' | 'quietBeat' | 'fate' | 'read' | 'update' | 'drain' | 'leave', Statement>
>

function memberStatements({ cluster, nodes, beats, sweepers, statement }: SchemaTables): MemberStatements {
  /** A change of the caller's own row: `set` happens if the incarnation is still a member, and bumps the version. */
  const change = (name: string, set: string, also = ''): Statement =>
    statement(
      name,
      `WITH locked AS MATERIALIZED (SELECT version FROM ${cluster} WHERE name = $1 FOR UPDATE),
  changed AS (
    UPDATE ${nodes} n SET version = locked.version + 1, changed_at = clock_timestamp(), ${set}
    FROM locked
    WHERE n.cluster = $1 AND n.id = $2 AND n.incarnation = $3::bigint AND n.state IN ('joining', 'up', 'leaving')
    RETURNING n.*
  ),${also}
  bumped AS (UPDATE ${cluster} c SET version = changed.version FROM changed WHERE c.name = $1),${announce('changed', '$4')}
SELECT ${record('changed')}::text AS answer FROM changed, sent`,
    )

  /** The own beat, and with it `answer`, for which `join` reads whatever is not of the cluster's row `c`. */
  const beat = (name: string, join: string, answer: string): Statement =>
    statement(
      name,
      `UPDATE ${beats} b SET at = clock_timestamp(), beat = greatest(b.beat, $5::int), backend = pg_backend_pid(),
  marker = CASE
    WHEN b.beat >= $5::int THEN b.marker
    WHEN pg_try_advisory_xact_lock($4::bigint) THEN NULL
    ELSE $4::bigint
  END
FROM ${cluster} c${join}
WHERE b.cluster = $1 AND b.id = $2 AND b.incarnation = $3::bigint AND c.name = $1
  AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING ${answer} AS answer`,
    )

  return {
    /**
     * Makes the caller a member with a new incarnation, or finds that this very attempt has done so before, which counts as
     * a beat. Whoever had the id is replaced.
     * $1 cluster, $2 id, $3 name, $4 address, $5 metadata, $6 attempt, $7 ttl in ms, $8 channel
     */
    join: statement(
      'join',
      `WITH bumped AS (
    INSERT INTO ${cluster} AS c (name, version) VALUES ($1, 1)
    ON CONFLICT (name) DO UPDATE SET version = c.version + 1
      WHERE NOT EXISTS (SELECT FROM ${nodes} n WHERE n.cluster = $1 AND n.id = $2 AND n.attempt = $6
                        AND n.state IN ('joining', 'up', 'leaving'))
    RETURNING c.version, c.pruned_death
  ),
  changed AS (
    INSERT INTO ${nodes} AS n (cluster, id, incarnation, name, address, metadata, state, version, joined_at, changed_at, attempt,
      last_death)
    SELECT $1, $2, version, $3, $4, $5::jsonb, 'up', version, clock_timestamp(), clock_timestamp(), $6, pruned_death
    FROM bumped
    ON CONFLICT (cluster, id) DO UPDATE SET
      incarnation = EXCLUDED.incarnation, name = EXCLUDED.name, address = EXCLUDED.address, metadata = EXCLUDED.metadata,
      state = 'up', cause = NULL, version = EXCLUDED.version, joined_at = EXCLUDED.joined_at,
      changed_at = EXCLUDED.changed_at, attempt = EXCLUDED.attempt, previous_incarnation = n.incarnation,
      previous_end = CASE n.state WHEN 'left' THEN 'left' WHEN 'down' THEN n.cause ELSE 'replaced' END,
      last_death = CASE n.state WHEN 'left' THEN n.last_death WHEN 'down' THEN n.version ELSE EXCLUDED.version END
    RETURNING n.*
  ),
  beat AS (
    INSERT INTO ${beats} AS b (cluster, id, incarnation, at, ttl_ms)
    SELECT $1, $2, incarnation, clock_timestamp(), $7::int FROM changed
    ON CONFLICT (cluster, id) DO UPDATE SET
      incarnation = EXCLUDED.incarnation, at = EXCLUDED.at, ttl_ms = EXCLUDED.ttl_ms, beat = 0, marker = NULL,
      backend = NULL
  ),
  found AS (
    UPDATE ${beats} b SET at = clock_timestamp() FROM ${nodes} n
    WHERE b.cluster = $1 AND b.id = $2 AND b.incarnation = n.incarnation
      AND n.cluster = $1 AND n.id = $2 AND n.attempt = $6 AND NOT EXISTS (SELECT FROM bumped)
  ),${announce('changed', '$8')}
SELECT ${record('changed')}::text AS answer FROM changed, sent
UNION ALL
SELECT ${record('n')}::text FROM ${nodes} n
WHERE n.cluster = $1 AND n.id = $2 AND n.attempt = $6 AND n.state IN ('joining', 'up', 'leaving')
  AND NOT EXISTS (SELECT FROM bumped)`,
    ),

    /**
     * Says that the caller lives, and learns the cluster's version, on which server, and who sweeps; no row: the others have let
     * it go. One HOT update; it does not wait for the disk, because a lost beat is followed by the next one. A marker that is free to be
     * locked is held by nobody (its connection was lost, or leads to another database) and is not believed in.
     * $1 cluster, $2 id, $3 incarnation, $4 marker or null, $5 number of the beat: beats may overtake each other, and an old
     * one must not put back a marker that is gone; $6 sweeper lease in ms
     */
    beat: beat(
      'beat',
      `
  LEFT JOIN ${sweepers} s ON s.cluster = c.name
  LEFT JOIN ${beats} h ON h.cluster = s.cluster AND h.id = s.id AND h.incarnation = s.incarnation`,
      `json_build_array(
    c.version::text, s.id, s.incarnation::text, s.epoch::text,
    h.id IS NULL OR s.renewed_at < clock_timestamp() - ${milliseconds('$6')}, ${server}
  )::text`,
    ),

    /** The same, and does not ask who sweeps, which a third of a beat's cost would go into. $1 to $5 as above */
    quietBeat: beat('quiet_beat', '', `c.version::text || ' ' || ${server}`),

    /**
     * What became of an id whose beat found no row: its newest incarnation.
     * $1 cluster, $2 id
     */
    fate: statement(
      'fate',
      `SELECT json_build_array(n.incarnation::text, n.state)::text AS answer FROM ${nodes} n WHERE n.cluster = $1 AND n.id = $2`,
    ),

    /**
     * The version and what changed after the version that the reader knows, in one snapshot; everything when the reader
     * knows nothing ($2 negative), has missed tombstones that are gone, or knows a version that a failover has lost. With
     * it the version up to which deaths may be forgotten, and the server.
     * $1 cluster, $2 known version
     */
    read: statement(
      'read',
      `SELECT json_build_array(
    c.version::text, r.since = 0,
    (SELECT coalesce(json_agg(${record('n')} ORDER BY n.version), '[]'::json) FROM ${nodes} n
     WHERE n.cluster = c.name AND n.version > r.since),
    c.pruned_death::text, ${server}
  )::text AS answer
FROM ${cluster} c,
  LATERAL (SELECT CASE WHEN $2::bigint < c.pruned_version OR $2::bigint > c.version THEN 0 ELSE $2::bigint END AS since) r
WHERE c.name = $1`,
    ),

    /** Replaces the metadata of the caller. $1 cluster, $2 id, $3 incarnation, $4 channel, $5 metadata */
    update: change('update', 'metadata = $5::jsonb'),

    /** The caller stays a member and asks for no new work. $1 cluster, $2 id, $3 incarnation, $4 channel */
    drain: change('drain', `state = 'leaving'`),

    /** The caller is no member any more, and whoever waits to sweep need not wait. $1 cluster, $2 id, $3 incarnation, $4 channel */
    leave: change(
      'leave',
      `state = 'left'`,
      `
  silent AS (
    DELETE FROM ${beats} b USING locked WHERE b.cluster = $1 AND b.id = $2 AND b.incarnation = $3::bigint
  ),`,
    ),
  }
}
