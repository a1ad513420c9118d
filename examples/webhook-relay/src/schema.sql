-- The shop: an ordinary table that an ordinary application writes. Nothing in it knows of webhooks.
CREATE TABLE IF NOT EXISTS sales (
  id       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer text    NOT NULL,
  cents    integer NOT NULL,
  revision integer NOT NULL DEFAULT 1 -- counted up by each update
);

-- What the endpoint refused for good: for somebody to look at.
CREATE TABLE IF NOT EXISTS refused_webhooks (
  idempotency_key text        PRIMARY KEY,
  status          integer     NOT NULL,
  body            json        NOT NULL,
  refused_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
