-- +goose Up

-- When the account of whoever has the role was disabled; 0: it isn't. Somebody who can't sign in
-- doesn't count as an admin.
ALTER TABLE operator_grants ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;
