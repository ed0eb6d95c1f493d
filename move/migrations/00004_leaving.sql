-- +goose Up

-- 1: an operator gives the move up without its destination, which is lost for good.
ALTER TABLE moves ADD COLUMN leaving BIGINT NOT NULL DEFAULT 0;
