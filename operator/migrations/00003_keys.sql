-- +goose Up

-- Which idempotency key was used for what, by hashes: a request with the same key and other content is
-- refused. made names what it made, and is '' until that is done. Rows stay as long as what was made.
CREATE TABLE operator_keys (
    environment TEXT   NOT NULL, -- of what is made
    kind        TEXT   NOT NULL, -- company, app
    key         TEXT   NOT NULL,
    request     TEXT   NOT NULL,
    made        TEXT   NOT NULL,
    used        BIGINT NOT NULL,
    PRIMARY KEY (environment, kind, key)
);
