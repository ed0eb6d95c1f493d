-- +goose Up

-- What apps are to hear of moves. A notice is written with the very change of the move that it
-- tells of, once for each kind. told: it was passed on to the apps of the company; heard: each of
-- them was tried once, so that it could have asked for a delay.
CREATE TABLE move_notices (
    id          TEXT   PRIMARY KEY,
    move_id     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    company_id  BIGINT NOT NULL,
    kind        TEXT   NOT NULL, -- scheduled, started, finished, aborted
    sequence    BIGINT NOT NULL, -- grows with the notices of a company
    at          BIGINT NOT NULL,
    data        TEXT   NOT NULL,
    told        BIGINT NOT NULL,
    heard       BIGINT NOT NULL,
    UNIQUE (move_id, kind)
);
CREATE INDEX move_notices_untold ON move_notices (at) WHERE told = 0;

-- Of moves that were over for their companies before there were notices nobody hears.
INSERT INTO move_notices (id, move_id, environment, company_id, kind, sequence, at, data, told, heard)
    SELECT 'before-' || id, id, environment, company_id, 'finished', 0, 0, '{}', 1, 1 FROM moves WHERE waits = 1 AND active = 0;

-- By how much apps have delayed a change-over. until: it isn't done before.
CREATE TABLE move_delays (
    move_id   TEXT   NOT NULL,
    client_id TEXT   NOT NULL,
    name      TEXT   NOT NULL,
    notice_id TEXT   NOT NULL, -- what the app answered to
    seconds   BIGINT NOT NULL, -- what it asked for
    until     BIGINT NOT NULL,
    PRIMARY KEY (move_id, client_id)
);

-- 1: an operator has dropped the delays of apps; they can ask for no more.
ALTER TABLE moves ADD COLUMN undelayed BIGINT NOT NULL DEFAULT 0;
