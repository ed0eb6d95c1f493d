-- +goose Up
-- A grant begins when its code is redeemed, no longer when the code is made.
DELETE FROM grants WHERE id IN (SELECT grant_id FROM codes WHERE used = 0);

-- A company that was deleted stays in the index, so that a late older version can't bring
-- it back, and isn't listed.
ALTER TABLE index_companies ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;

-- For the sweep of what has ended.
CREATE INDEX IF NOT EXISTS grants_last_token ON grants (user_id, last_token);
CREATE INDEX IF NOT EXISTS refresh_tokens_used ON refresh_tokens (used);
