-- Cluster membership: who is a member, when each was last heard of, and who looks for the dead.
-- package: cluster-discovery
-- version: 1
-- compatible with: 1
\if :{?schema}
\else
  \set schema coordination
\endif

CREATE SCHEMA IF NOT EXISTS :"schema";

CREATE TABLE IF NOT EXISTS :"schema".schema_versions (
  package         text        PRIMARY KEY,
  version         integer     NOT NULL,
  compatible_with integer     NOT NULL,
  migrated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per cluster. Each change of membership locks it and counts it up, so that version order is commit order: whoever
-- has seen version 7 has seen everything up to 7. A sequence has gaps and hands out numbers before they are committed.
CREATE TABLE :"schema".cluster (
  name           text   PRIMARY KEY,
  version        bigint NOT NULL,
  pruned_version bigint NOT NULL DEFAULT 0,
  pruned_death   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE :"schema".cluster IS 'Clusters and the version of their membership';
COMMENT ON COLUMN :"schema".cluster.pruned_version IS 'Tombstones up to this version may be gone; older readers need the full view';
COMMENT ON COLUMN :"schema".cluster.pruned_death IS 'Version of the newest death that pruned tombstones knew of; whoever is missing and was a member later has left';

-- Members and, for a while, those who have gone (tombstones). The incarnation is the version of the join, so it grows with
-- each join of an id.
CREATE TABLE :"schema".nodes (
  cluster              text        NOT NULL,
  id                   text        NOT NULL,
  incarnation          bigint      NOT NULL,
  name                 text        NOT NULL,
  address              text,
  metadata             jsonb       NOT NULL,
  state                text        NOT NULL CHECK (state IN ('joining', 'up', 'leaving', 'left', 'down')),
  cause                text        CHECK (cause IN ('ttl', 'crash', 'replaced')),
  version              bigint      NOT NULL,
  joined_at            timestamptz NOT NULL,
  changed_at           timestamptz NOT NULL,
  attempt              text        NOT NULL,
  previous_incarnation bigint,
  last_death           bigint      NOT NULL,
  previous_end         text        CHECK (previous_end IN ('left', 'ttl', 'crash', 'replaced')),
  PRIMARY KEY (cluster, id)
);
CREATE INDEX nodes_version ON :"schema".nodes (cluster, version);
COMMENT ON TABLE :"schema".nodes IS 'Members of each cluster, and tombstones of those who left or went down';
COMMENT ON COLUMN :"schema".nodes.attempt IS 'Names one attempt to join: a join that is repeated because its answer was lost finds itself';
COMMENT ON COLUMN :"schema".nodes.last_death IS 'Version up to which earlier incarnations of this id may have died; those that were members later have left';
COMMENT ON COLUMN :"schema".nodes.previous_end IS 'How the incarnation before this one ended, for readers who missed it';

-- Apart from nodes, narrow and without a second index, so that a beat is a HOT update of some hundred bytes.
CREATE TABLE :"schema".node_beats (
  cluster     text        NOT NULL,
  id          text        NOT NULL,
  incarnation bigint      NOT NULL,
  at          timestamptz NOT NULL,
  ttl_ms      integer     NOT NULL,
  beat        integer     NOT NULL DEFAULT 0,
  marker      bigint,
  backend     integer,
  PRIMARY KEY (cluster, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE :"schema".node_beats IS 'When each member was last heard of; a member without a row has been let go';
COMMENT ON COLUMN :"schema".node_beats.marker IS 'Advisory lock that the node''s listener connection holds, if it has one';
COMMENT ON COLUMN :"schema".node_beats.backend IS 'Process of the server that took the last beat';

CREATE TABLE :"schema".cluster_sweepers (
  cluster     text        PRIMARY KEY,
  epoch       bigint      NOT NULL,
  id          text        NOT NULL,
  incarnation bigint      NOT NULL,
  renewed_at  timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE :"schema".cluster_sweepers IS 'Who looks for dead nodes; a lease that counts its epochs';

INSERT INTO :"schema".schema_versions AS v (package, version, compatible_with)
VALUES ('cluster-discovery', 1, 1)
ON CONFLICT (package) DO UPDATE
   SET version = excluded.version, compatible_with = excluded.compatible_with, migrated_at = excluded.migrated_at;
