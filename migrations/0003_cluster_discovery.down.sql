\if :{?schema} \else \set schema coordination \endif

DROP TABLE IF EXISTS :"schema".cluster_sweepers;
DROP TABLE IF EXISTS :"schema".node_beats;
DROP TABLE IF EXISTS :"schema".nodes;
DROP TABLE IF EXISTS :"schema".cluster;
