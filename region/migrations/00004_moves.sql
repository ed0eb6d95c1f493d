-- +goose Up

-- The last mover that has acted on a company here. Each time that a mover takes up a move it
-- gets a higher turn; whoever comes with a lower one has been replaced and changes nothing.
CREATE TABLE moves (
    company_id BIGINT PRIMARY KEY,
    move_id    TEXT   NOT NULL,
    turn       BIGINT NOT NULL,
    -- 1: the move was given up here, and must not begin to arrive again.
    abandoned  BIGINT NOT NULL DEFAULT 0,
    -- The change log is kept from the version after this one on; -1: as long as any other.
    keep_after BIGINT NOT NULL DEFAULT -1
);

-- A company that arrives by a move: which rows have come, table by table in the order of the
-- keys, and up to which version the changes since are applied. Up to settled, rows may have
-- been copied that are newer than the change that is applied.
ALTER TABLE arrivals ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE arrivals ADD COLUMN table_name TEXT NOT NULL DEFAULT '';
ALTER TABLE arrivals ADD COLUMN after_key TEXT NOT NULL DEFAULT '';
ALTER TABLE arrivals ADD COLUMN copied BIGINT NOT NULL DEFAULT 0;
ALTER TABLE arrivals ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE arrivals ADD COLUMN settled BIGINT NOT NULL DEFAULT 0;

-- 1: the rows of a company that went elsewhere are being deleted, or are deleted.
ALTER TABLE fence ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;
