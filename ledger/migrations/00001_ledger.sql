-- +goose Up

-- Non-compliant calls, counted by all that stands before the count. Days count from 1970.
CREATE TABLE ledger (
    environment TEXT   NOT NULL,
    day         BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    app         BIGINT NOT NULL,
    client_id   TEXT   NOT NULL,
    company_id  BIGINT NOT NULL,
    method      TEXT   NOT NULL,
    route       TEXT   NOT NULL,
    status      BIGINT NOT NULL,
    refused     BIGINT NOT NULL,
    also        BIGINT NOT NULL,
    host        TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    count       BIGINT NOT NULL,
    PRIMARY KEY (environment, day, client_id, kind, app, company_id, method, route, status, refused, also, host, agent)
);
CREATE INDEX ledger_by_app ON ledger (environment, client_id, day);
CREATE INDEX ledger_by_company ON ledger (environment, company_id, day);

-- The batches that were applied, as far back as one may come again.
CREATE TABLE ledger_applied (
    boot TEXT   NOT NULL,
    seq  BIGINT NOT NULL,
    day  BIGINT NOT NULL,
    PRIMARY KEY (boot, seq)
);
