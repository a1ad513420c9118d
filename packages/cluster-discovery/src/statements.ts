/**
 * All SQL of this package. Each statement is a transaction of its own, so that it works through a transaction pooler, and
 * answers with one column `answer` of JSON text, so that type parsers which the application registered do not touch it.
 *
 * Lock order everywhere: the cluster's row, then nodes, then beats. What a data-modifying statement waits for on the
 * cluster's row, it sees as of the newest commit (READ COMMITTED follows the row), so `version + 1` is never given twice.
 */
export interface Statement {
  readonly name: string
  readonly text: string
}

/** The statements of one schema. */
export type ClusterStatements = Readonly<
  Record<
    | 'join'
    | 'beat'
    | 'fate'
    | 'read'
    | 'update'
    | 'drain'
    | 'leave'
    | 'take'
    | 'watchSweeper'
    | 'succeed'
    | 'look'
    | 'down'
    | 'prune',
    Statement
  >
>

/** Characters that a notification may have, less one: `pg_notify` wants payloads shorter than 8,000 bytes. */
const longestPayload = 7_999

/** A node as readers get it, whether by a read or by a notification; parsed in record.ts. */
const record = (n: string): string => `json_build_array(
    ${n}.id, ${n}.incarnation::text, ${n}.name, ${n}.address, ${n}.metadata, ${n}.state, ${n}.cause, ${n}.version::text,
    floor(extract(epoch FROM ${n}.joined_at) * 1000)::bigint, ${n}.previous_incarnation::text, ${n}.previous_end)`

/** Microseconds as text: a timestamp that survives any DateStyle and any type parser. */
const micros = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::bigint::text`

const milliseconds = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`

/**
 * The end of each statement that changes members: tells the channel of the new version, with the records themselves where
 * they fit. PostgreSQL delivers notifications in commit order, which is version order here.
 */
const announce = (from: string, channel: string): string => `
  told AS (
    SELECT json_build_object('v', max(version)::text, 'n', json_agg(${record(from)}))::text AS full,
           json_build_object('v', max(version)::text)::text AS short
    FROM ${from} HAVING count(*) > 0
  ),
  sent AS (
    SELECT pg_notify(${channel}, CASE WHEN octet_length("full") <= ${longestPayload} THEN "full" ELSE "short" END) FROM told
  )`

/** Members hold a row here while a backend holds their marker; see marker.ts. */
const heldMarkers = `
  held AS MATERIALIZED (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS marker
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  )`

/**
 * Whether a process looks as if it had ended; needs {@link heldMarkers}. The server drops the marker with the listener's
 * connection, which on a half-open line the node does not know yet: its beats go on, rarer than the looks. A process that
 * ended has lost the connection of its last beat too; that of a pooler stays, so it counts for half a ttl only.
 */
const crashed = (b: string): string => `CASE
        WHEN ${b}.marker IS NULL OR EXISTS (SELECT FROM held WHERE held.marker = ${b}.marker) THEN false
        ELSE ${b}.at < clock_timestamp() - ${milliseconds(`${b}.ttl_ms`)} / 2
          OR NOT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(${b}.backend))
      END`

export function clusterStatements(quotedSchema: string, tag: string): ClusterStatements {
  const cluster = `${quotedSchema}.cluster`
  const nodes = `${quotedSchema}.nodes`
  const beats = `${quotedSchema}.node_beats`
  const sweepers = `${quotedSchema}.cluster_sweepers`
  const statement = (name: string, text: string): Statement => ({ name: `cluster_${name}_${tag}`, text })

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
    RETURNING c.version
  ),
  changed AS (
    INSERT INTO ${nodes} AS n (cluster, id, incarnation, name, address, metadata, state, version, joined_at, changed_at, attempt)
    SELECT $1, $2, version, $3, $4, $5::jsonb, 'up', version, clock_timestamp(), clock_timestamp(), $6 FROM bumped
    ON CONFLICT (cluster, id) DO UPDATE SET
      incarnation = EXCLUDED.incarnation, name = EXCLUDED.name, address = EXCLUDED.address, metadata = EXCLUDED.metadata,
      state = 'up', cause = NULL, version = EXCLUDED.version, joined_at = EXCLUDED.joined_at,
      changed_at = EXCLUDED.changed_at, attempt = EXCLUDED.attempt, previous_incarnation = n.incarnation,
      previous_end = CASE n.state WHEN 'left' THEN 'left' WHEN 'down' THEN n.cause ELSE 'replaced' END
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
     * Says that the caller lives, and learns the cluster's version, and who sweeps; no row: the others have let it go. One HOT
     * update; it does not wait for the disk, because a lost beat is followed by the next one. A marker that is free to be
     * locked is held by nobody (its connection was lost, or leads to another database) and is not believed in.
     * $1 cluster, $2 id, $3 incarnation, $4 marker or null, $5 sweeper lease in ms, $6 number of the beat: beats may overtake
     * each other, and an old one must not put back a marker that is gone
     */
    beat: statement(
      'beat',
      `UPDATE ${beats} b SET at = clock_timestamp(), beat = greatest(b.beat, $6::int), backend = pg_backend_pid(),
  marker = CASE
    WHEN b.beat >= $6::int THEN b.marker
    WHEN pg_try_advisory_xact_lock($4::bigint) THEN NULL
    ELSE $4::bigint
  END
FROM ${cluster} c LEFT JOIN ${sweepers} s ON s.cluster = c.name
WHERE b.cluster = $1 AND b.id = $2 AND b.incarnation = $3::bigint AND c.name = $1
  AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING json_build_array(
    c.version::text, s.id, s.incarnation::text, s.epoch::text,
    s.epoch IS NULL OR s.renewed_at < clock_timestamp() - ${milliseconds('$5')}
      OR NOT EXISTS (SELECT FROM ${beats} h WHERE h.cluster = $1 AND h.id = s.id AND h.incarnation = s.incarnation)
  )::text AS answer`,
    ),

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
     * knows nothing ($2 negative), has missed tombstones that are gone, or knows a version that a failover has lost.
     * $1 cluster, $2 known version
     */
    read: statement(
      'read',
      `SELECT json_build_array(
    c.version::text, r.since = 0,
    (SELECT coalesce(json_agg(${record('n')} ORDER BY n.version), '[]'::json) FROM ${nodes} n
     WHERE n.cluster = c.name AND n.version > r.since)
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
      `WITH ${heldMarkers}
SELECT json_build_array(
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
      `WITH ${heldMarkers}
UPDATE ${sweepers} s SET epoch = s.epoch + 1, id = mine.id, incarnation = mine.incarnation, renewed_at = clock_timestamp()
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
  ),${heldMarkers},
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
  ),${heldMarkers},
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
     * that a reader who has not seen it takes the full view.
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
    RETURNING n.version
  ),
  raised AS (
    UPDATE ${cluster} c SET pruned_version = greatest(c.pruned_version, u.version)
    FROM (SELECT max(version) AS version FROM gone) u
    WHERE c.name = $1 AND u.version IS NOT NULL
  )
SELECT count(*)::text AS answer FROM gone`,
    ),
  }
}
