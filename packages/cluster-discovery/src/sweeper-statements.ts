import type { Statement } from '@x/pg-session'
import { announce, crashed, micros, milliseconds, type SchemaTables } from './sql-fragments.ts'

/** Who sweeps, and what the sweeper and its standbys do. */
export type SweeperStatements = Readonly<
  Record<'take' | 'watchSweeper' | 'succeed' | 'look' | 'down' | 'prune', Statement>
>

export function sweeperStatements({ cluster, nodes, beats, sweepers, statement }: SchemaTables): SweeperStatements {
  return {
    /**
     * Takes the sweeper's lease if it is free: expired, or its holder is no member any more. The caller must be one.
     * A refused try writes nothing.
     * $1 cluster, $2 id, $3 incarnation, $4 sweeper lease in ms
     */
    take: statement(
      'take',
      `INSERT INTO ${sweepers} AS s (cluster, epoch, id, incarnation, renewed_at)
SELECT $1, 1, b.id, b.incarnation, clock_timestamp() FROM ${beats} b
WHERE b.cluster = $1 AND b.id = $2 AND b.incarnation = $3::bigint
ON CONFLICT (cluster) DO UPDATE SET
  epoch = s.epoch + 1, id = EXCLUDED.id, incarnation = EXCLUDED.incarnation, renewed_at = EXCLUDED.renewed_at
WHERE s.renewed_at < clock_timestamp() - ${milliseconds('$4')}
  OR NOT EXISTS (SELECT FROM ${beats} b WHERE b.cluster = $1 AND b.id = s.id AND b.incarnation = s.incarnation)
RETURNING s.epoch::text AS answer`,
    ),

    /**
     * A standby's look at the sweeper: whether it looks crashed, and its last beat.
     * $1 cluster
     */
    watchSweeper: statement(
      'watch_sweeper',
      `SELECT json_build_array(
    s.epoch::text, ${crashed('b')}, ${micros('b.at')}
  )::text AS answer
FROM ${sweepers} s JOIN ${beats} b ON b.cluster = s.cluster AND b.id = s.id AND b.incarnation = s.incarnation
WHERE s.cluster = $1`,
    ),

    /**
     * Takes the lease from a sweeper that crashed: it looks so, and has not beaten since the look that first saw it.
     * $1 cluster, $2 id, $3 incarnation, $4 epoch of the crashed, $5 its last beat
     */
    succeed: statement(
      'succeed',
      `UPDATE ${sweepers} s SET epoch = s.epoch + 1, id = mine.id, incarnation = mine.incarnation, renewed_at = clock_timestamp()
FROM ${beats} b, ${beats} mine
WHERE s.cluster = $1 AND s.epoch = $4::bigint
  AND b.cluster = s.cluster AND b.id = s.id AND b.incarnation = s.incarnation AND ${micros('b.at')} = $5::text
  AND ${crashed('b')}
  AND mine.cluster = $1 AND mine.id = $2 AND mine.incarnation = $3::bigint
RETURNING s.epoch::text AS answer`,
    ),

    /**
     * One look: renews the lease (no row: it is lost) and lists the members whose last beat is older than their ttl or
     * who look crashed. Never the sweeper itself. All on the database's clock.
     * $1 cluster, $2 id, $3 incarnation, $4 epoch
     */
    look: statement(
      'look',
      `WITH hurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
  lease AS (
    UPDATE ${sweepers} s SET renewed_at = clock_timestamp() FROM hurried
    WHERE s.cluster = $1 AND s.id = $2 AND s.incarnation = $3::bigint AND s.epoch = $4::bigint
    RETURNING s.epoch
  ),
  aged AS (
    SELECT b.id, b.incarnation, ${micros('b.at')} AS at,
      b.at < clock_timestamp() - ${milliseconds('b.ttl_ms')} AS stale,
      b.at < clock_timestamp() - ${milliseconds('b.ttl_ms')} / 2 AS overdue,
      ${crashed('b')} AS gone
    FROM ${beats} b WHERE b.cluster = $1 AND b.id <> $2
  )
SELECT json_build_array(
    (SELECT count(*) FROM aged) + 1,
    (SELECT count(*) FROM aged WHERE overdue OR gone),
    floor(extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000)::bigint,
    (SELECT coalesce(json_agg(json_build_array(id, incarnation::text, at, stale, gone)), '[]'::json)
     FROM aged WHERE stale OR gone)
  )::text AS answer
FROM lease`,
    ),

    /**
     * Lets those go of $5 who are still silent. The DELETE decides: it waits for a beat that is being committed and then
     * judges the newest row (whereas an UPDATE of nodes after a SELECT of beats judges the old one), and the row that it
     * leaves missing is what tells the next beat that it comes too late.
     * $1 cluster, $2 id, $3 incarnation, $4 epoch of the sweeper, $5 ids, $6 incarnations, $7 last beats, $8 'ttl' or 'crash',
     * $9 channel
     */
    down: statement(
      'down',
      `WITH locked AS MATERIALIZED (
    SELECT c.version FROM ${cluster} c
    WHERE c.name = $1 AND EXISTS (SELECT FROM ${sweepers} s
      WHERE s.cluster = $1 AND s.id = $2 AND s.incarnation = $3::bigint AND s.epoch = $4::bigint)
    FOR UPDATE
  ),
  dead AS (
    DELETE FROM ${beats} b
    USING locked, unnest($5::text[], $6::bigint[], $7::text[]) AS suspect (id, incarnation, at)
    WHERE b.cluster = $1 AND b.id <> $2 AND b.id = suspect.id AND b.incarnation = suspect.incarnation
      AND CASE $8::text
        WHEN 'ttl' THEN b.at < clock_timestamp() - ${milliseconds('b.ttl_ms')}
        ELSE ${micros('b.at')} = suspect.at AND ${crashed('b')}
      END
    RETURNING b.id, b.incarnation
  ),
  changed AS (
    UPDATE ${nodes} n SET state = 'down', cause = $8::text, version = locked.version + 1, changed_at = clock_timestamp()
    FROM dead, locked
    WHERE n.cluster = $1 AND n.id = dead.id AND n.incarnation = dead.incarnation
    RETURNING n.*
  ),
  bumped AS (
    UPDATE ${cluster} c SET version = u.version FROM (SELECT max(version) AS version FROM changed) u
    WHERE c.name = $1 AND u.version IS NOT NULL
  ),${announce('changed', '$9')}
SELECT json_agg(json_build_array(changed.id, changed.incarnation::text))::text AS answer FROM changed, sent HAVING count(*) > 0`,
    ),

    /**
     * Forgets tombstones older than $2 ms, and the oldest beyond $3, and raises pruned_version to the newest forgotten, so
     * that a reader who has not seen it takes the full view; pruned_death likewise, by the deaths that the rows remember.
     * $1 cluster, $2 age in ms, $3 how many may stay
     */
    prune: statement(
      'prune',
      `WITH locked AS MATERIALIZED (SELECT name FROM ${cluster} WHERE name = $1 FOR UPDATE),
  doomed AS (
    SELECT n.id, n.incarnation FROM ${nodes} n, locked
    WHERE n.cluster = $1 AND n.state IN ('left', 'down')
      AND (n.changed_at < clock_timestamp() - ${milliseconds('$2')}
        OR n.version <= (SELECT o.version FROM ${nodes} o WHERE o.cluster = $1 AND o.state IN ('left', 'down')
                         ORDER BY o.version DESC OFFSET $3::int LIMIT 1))
  ),
  gone AS (
    DELETE FROM ${nodes} n USING doomed
    WHERE n.cluster = $1 AND n.id = doomed.id AND n.incarnation = doomed.incarnation AND n.state IN ('left', 'down')
    RETURNING n.version, CASE n.state WHEN 'down' THEN n.version ELSE n.last_death END AS death
  ),
  raised AS (
    UPDATE ${cluster} c
    SET pruned_version = greatest(c.pruned_version, u.version), pruned_death = greatest(c.pruned_death, u.death)
    FROM (SELECT max(version) AS version, max(death) AS death FROM gone) u
    WHERE c.name = $1 AND u.version IS NOT NULL
  )
SELECT count(*)::text AS answer FROM gone`,
    ),
  }
}
