-- +goose Up

-- Which idempotency key was used for what, by hashes: a request with the same key and other content is
-- refused. made names what it made, and is '' until that is done; claims counts the requests. Rows are
-- deleted a day after their first use.
CREATE TABLE operator_keys (
    environment TEXT   NOT NULL, -- of what is made
    kind        TEXT   NOT NULL, -- company, app
    key         TEXT   NOT NULL,
    request     TEXT   NOT NULL,
    made        TEXT   NOT NULL,
    claims      BIGINT NOT NULL,
    used        BIGINT NOT NULL,
    PRIMARY KEY (environment, kind, key)
);
CREATE INDEX operator_keys_used ON operator_keys (used);
