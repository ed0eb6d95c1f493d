-- +goose Up

-- All calls of a day, compliant or not: what the non-compliant ones are a share of.
CREATE TABLE ledger_calls (
    environment TEXT   NOT NULL,
    day         BIGINT NOT NULL,
    calls       BIGINT NOT NULL,
    PRIMARY KEY (environment, day)
);
