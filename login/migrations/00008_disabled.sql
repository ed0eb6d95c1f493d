-- +goose Up

-- When an account was disabled; 0: it isn't. The hash of its password waits in disabled_hash
-- meanwhile, so that login services which don't know of this let nobody in either.
ALTER TABLE users ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN disabled_hash TEXT NOT NULL DEFAULT '';

CREATE INDEX IF NOT EXISTS sessions_user ON sessions (user_id);
CREATE INDEX IF NOT EXISTS codes_user ON codes (user_id);
