-- The shop: an ordinary table that an ordinary application writes. Nothing in it knows of the pipeline.
CREATE TABLE orders (
  id       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer integer NOT NULL,
  cents    integer NOT NULL,
  revision integer NOT NULL DEFAULT 1 -- counted up by each update: the order in which one order changed
);

-- What the leader's handler makes of the changes.
CREATE TABLE customer_totals (
  customer integer PRIMARY KEY,
  orders   bigint  NOT NULL,
  cents    bigint  NOT NULL
);

-- Evidence, first half: the load generator writes down each change in the statement that makes it, so both are
-- committed or neither is. It owes nothing to triggers or to the packages under test.
CREATE TABLE journal (
  order_id  bigint  NOT NULL,
  revision  integer NOT NULL,
  operation text    NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
  customer  integer NOT NULL,
  cents     integer NOT NULL,
  PRIMARY KEY (order_id, revision)
);

-- Evidence, second half: the handler writes one row for each change that it was given, beside the totals. No constraint
-- keeps a second effect of one change out, because the audit has to be able to find it.
CREATE TABLE effects (
  position        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of handling
  order_id        bigint  NOT NULL,
  revision        integer NOT NULL,
  operation       text    NOT NULL,
  customer        integer NOT NULL,
  cents           integer NOT NULL,
  idempotency_key text    NOT NULL,
  epoch           bigint  NOT NULL,
  node            text    NOT NULL
);

-- Who led when: written with the first batch that a leader commits in its epoch.
CREATE TABLE terms (
  epoch          bigint      PRIMARY KEY,
  node           text        NOT NULL,
  first_batch_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Each run of the job that must never run twice at once, by the database's clock. A run that has no `ended_at` was cut
-- off and had no effect: its result is committed together with its end.
CREATE TABLE job_runs (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node       text        NOT NULL,
  token      bigint      NOT NULL, -- the fencing token of the lock under which it ran
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(), -- the last time at which it was seen at work
  ended_at   timestamptz,
  orders     bigint -- its result: how many orders the books showed
);

-- What the demo broke, and when.
CREATE TABLE faults (
  id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text        NOT NULL CHECK (kind IN ('kill', 'stop', 'continue', 'end-leader-backend', 'end-job-session')),
  node text        NOT NULL,
  at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What the handler of the second input makes of the changes: the orders by price band.
CREATE TABLE price_bands (
  from_cents integer PRIMARY KEY,
  name       text    NOT NULL
);
INSERT INTO price_bands (from_cents, name) VALUES (1, 'small'), (1000, 'medium'), (5000, 'large');
CREATE TABLE order_index (
  order_id bigint  PRIMARY KEY,
  customer integer NOT NULL,
  cents    integer NOT NULL,
  band     text    NOT NULL
);
CREATE INDEX order_index_band ON order_index (band);

-- Evidence of the second input, as `effects` is of the first; `read` is an order that was there before the index.
CREATE TABLE index_effects (
  position        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id        bigint  NOT NULL,
  revision        integer NOT NULL,
  operation       text    NOT NULL,
  idempotency_key text    NOT NULL,
  epoch           bigint  NOT NULL,
  node            text    NOT NULL
);
CREATE INDEX index_effects_order ON index_effects (order_id);

-- Orders that the demo placed so that the handler of the index must fail on them.
CREATE TABLE poison (
  order_id bigint      PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
