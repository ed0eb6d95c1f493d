-- +goose Up

-- What the index knows of a company from before this version is over: its region was restored from
-- a backup, and has published again all that there is.
ALTER TABLE index_companies ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
