-- +goose Up

-- Movers that look for work change this row first, and so do it one after the other.
CREATE TABLE move_claims (claims BIGINT NOT NULL);
INSERT INTO move_claims (claims) VALUES (0);

-- What movers look for twice a second: few of many moves that wait for their turn, or whose rows
-- are kept for a while.
DROP INDEX moves_waiting;
CREATE INDEX IF NOT EXISTS moves_leased ON moves (lease) WHERE waits = 1 AND lease > 0;
CREATE INDEX IF NOT EXISTS moves_working ON moves (seq) WHERE waits = 1 AND phase <> 'queued' AND phase <> 'retained';
CREATE INDEX IF NOT EXISTS moves_queued ON moves (environment, source, destination, seq) WHERE waits = 1 AND phase = 'queued';
CREATE INDEX IF NOT EXISTS moves_given_up ON moves (seq) WHERE waits = 1 AND phase = 'queued' AND aborting = 1;
CREATE INDEX IF NOT EXISTS moves_retained ON moves (wake) WHERE waits = 1 AND phase = 'retained';
CREATE INDEX IF NOT EXISTS moves_begun ON moves (environment, source, destination) WHERE active = 1 AND (phase <> 'queued' OR lease > 0);
CREATE INDEX IF NOT EXISTS moves_by_seq ON moves (seq);
