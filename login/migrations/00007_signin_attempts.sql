-- +goose Up

-- Failed attempts to sign in, and those under way, by what they count for: an account, an address,
-- or both, as a hash. Each puts off the moment from which on all attempts are left again.
CREATE TABLE signin_attempts (
    counts_for TEXT   PRIMARY KEY,
    full_again BIGINT NOT NULL
);
CREATE INDEX signin_attempts_full_again ON signin_attempts (full_again);
