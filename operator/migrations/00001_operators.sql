-- +goose Up

-- Roles that users of the login service were granted. The login stands here as well: an identity
-- store that is lost and made anew gives the ids out again.
CREATE TABLE operator_grants (
    environment TEXT   NOT NULL,
    user_id     BIGINT NOT NULL,
    login       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    role        TEXT   NOT NULL, -- viewer, operator, admin
    granted     BIGINT NOT NULL,
    granted_by  TEXT   NOT NULL,
    PRIMARY KEY (environment, user_id)
);

-- Whoever changes grants changes this row first, so that it is done one after the other: of two
-- admins who revoke one another at once, one stays.
CREATE TABLE operator_changes (changes BIGINT NOT NULL);
INSERT INTO operator_changes (changes) VALUES (0);

-- Times are Unix microseconds. used is when the session was last seen, about; checked when the
-- login service was last asked for its user; credential tells a changed password.
CREATE TABLE operator_sessions (
    hash        TEXT   PRIMARY KEY,
    id          TEXT   NOT NULL UNIQUE,
    environment TEXT   NOT NULL,
    user_id     BIGINT NOT NULL,
    login       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    kind        TEXT   NOT NULL, -- browser, command line
    csrf        TEXT   NOT NULL,
    credential  TEXT   NOT NULL,
    created     BIGINT NOT NULL,
    used        BIGINT NOT NULL,
    checked     BIGINT NOT NULL,
    expires     BIGINT NOT NULL
);
CREATE INDEX operator_sessions_user ON operator_sessions (environment, user_id);
CREATE INDEX operator_sessions_expires ON operator_sessions (expires);

-- Codes by which a command line gets its session, once.
CREATE TABLE operator_codes (
    hash        TEXT   PRIMARY KEY,
    challenge   TEXT   NOT NULL, -- S256
    environment TEXT   NOT NULL,
    user_id     BIGINT NOT NULL,
    login       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    credential  TEXT   NOT NULL,
    expires     BIGINT NOT NULL
);
CREATE INDEX operator_codes_expires ON operator_codes (expires);

-- The audit log: what was asked for, and what came of it. Rows are added, and deleted when their
-- time is over; none is ever changed. One without an outcome was cut off.
CREATE TABLE operator_audit (
    id          TEXT   PRIMARY KEY,
    at          BIGINT NOT NULL,
    who         TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    environment TEXT   NOT NULL, -- "": the system as a whole
    action      TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    request_id  TEXT   NOT NULL
);
CREATE INDEX operator_audit_at ON operator_audit (at, id);
CREATE INDEX operator_audit_who ON operator_audit (who, at, id);
CREATE TABLE operator_outcomes (
    audit_id     TEXT   PRIMARY KEY,
    at           BIGINT NOT NULL,
    outcome      TEXT   NOT NULL, -- done, or the code of a refusal
    object       TEXT   NOT NULL, -- what was made, where the subject doesn't say so
    claimed      TEXT   NOT NULL, -- who whoever has the admin token says to be
    value_before TEXT   NOT NULL, -- JSON, or ""
    value_after  TEXT   NOT NULL
);
