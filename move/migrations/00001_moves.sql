-- +goose Up

-- Moves of companies, those that are over included. turn counts who has taken a move up:
-- regions refuse what comes with a lower one. lease is until when its mover is taken to be
-- alive, wake when there is something to do; times are Unix microseconds.
CREATE TABLE moves (
    id          TEXT   PRIMARY KEY,
    seq         BIGINT NOT NULL,
    environment TEXT   NOT NULL,
    company_id  BIGINT NOT NULL,
    source      TEXT   NOT NULL,
    destination TEXT   NOT NULL,
    phase       TEXT   NOT NULL,
    active      BIGINT NOT NULL, -- 1: the company is about to change over
    waits       BIGINT NOT NULL, -- 1: there is something left to do
    turn        BIGINT NOT NULL,
    lease       BIGINT NOT NULL,
    wake        BIGINT NOT NULL,
    paused      BIGINT NOT NULL,
    aborting    BIGINT NOT NULL,
    details     TEXT   NOT NULL
);
CREATE UNIQUE INDEX moves_active ON moves (environment, company_id) WHERE active = 1;
CREATE INDEX moves_waiting ON moves (wake) WHERE waits = 1;
CREATE INDEX moves_by_company ON moves (environment, company_id);

-- What became of a move, and when.
CREATE TABLE move_events (
    move_id TEXT   NOT NULL,
    n       BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    phase   TEXT   NOT NULL,
    note    TEXT   NOT NULL,
    PRIMARY KEY (move_id, n)
);
