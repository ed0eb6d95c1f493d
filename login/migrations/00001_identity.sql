-- +goose Up
CREATE TABLE sequences (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO sequences (name, value) VALUES ('users', 0), ('apps', 0);

CREATE TABLE users (
    id            BIGINT PRIMARY KEY,
    login         TEXT   NOT NULL UNIQUE, -- lower case
    name          TEXT   NOT NULL,
    password_hash TEXT   NOT NULL,        -- empty: invited, can't sign in yet
    created       BIGINT NOT NULL
);

CREATE TABLE apps (
    id               BIGINT PRIMARY KEY,
    client_id        TEXT   NOT NULL UNIQUE,
    name             TEXT   NOT NULL,
    kind             TEXT   NOT NULL,     -- web, installed, developer_managed, traditional
    company_id       BIGINT NOT NULL,     -- of a traditional service account; 0 otherwise
    redirect_uris    TEXT   NOT NULL,     -- JSON array
    secret_hash      TEXT   NOT NULL,     -- empty: a public client
    old_secret_hash  TEXT   NOT NULL,     -- after a rotation with an overlap
    old_secret_until BIGINT NOT NULL,
    created          BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash    TEXT   PRIMARY KEY,
    user_id BIGINT NOT NULL,
    csrf    TEXT   NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);

-- A grant is an authorization with all its refreshes, or one client_credentials call.
CREATE TABLE grants (
    id         TEXT   PRIMARY KEY,
    app_id     BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,           -- 0: a service account
    created    BIGINT NOT NULL,
    last_token BIGINT NOT NULL,           -- when its last access token expires
    revoked    BIGINT NOT NULL,           -- 0: it isn't
    published  BIGINT NOT NULL            -- 1: verifiers have been told of the revocation
);
CREATE INDEX grants_unpublished ON grants (published, revoked);

CREATE TABLE codes (
    hash           TEXT   PRIMARY KEY,
    grant_id       TEXT   NOT NULL,
    app_id         BIGINT NOT NULL,
    user_id        BIGINT NOT NULL,
    redirect_uri   TEXT   NOT NULL,
    uri_was_sent   BIGINT NOT NULL,       -- 1: the token request must repeat the redirect URI
    code_challenge TEXT   NOT NULL,       -- S256; empty: none
    expires        BIGINT NOT NULL,
    used           BIGINT NOT NULL        -- 0: not yet
);
CREATE INDEX codes_expires ON codes (expires);

CREATE TABLE refresh_tokens (
    hash         TEXT   PRIMARY KEY,
    grant_id     TEXT   NOT NULL,
    created      BIGINT NOT NULL,
    used         BIGINT NOT NULL,         -- 0: not yet
    answer       TEXT   NOT NULL,         -- the pair that it was exchanged for, sealed with the token itself
    answer_until BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_grant ON refresh_tokens (grant_id);

CREATE TABLE signing_keys (
    kid        TEXT   PRIMARY KEY,
    algorithm  TEXT   NOT NULL,
    pem        TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    signs_from BIGINT NOT NULL
);

-- The global index. Rows that were deleted stay, so that a late older version can't
-- bring them back.
CREATE TABLE index_companies (
    company_id BIGINT PRIMARY KEY,
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL
);
CREATE TABLE index_memberships (
    user_id    BIGINT NOT NULL,
    company_id BIGINT NOT NULL,
    deleted    BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (user_id, company_id)
);
CREATE TABLE index_installations (
    app_id     BIGINT NOT NULL,
    company_id BIGINT NOT NULL,
    deleted    BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (app_id, company_id)
);
-- The newest version of a company that has been applied: what an operator waits for.
CREATE TABLE index_versions (
    company_id BIGINT PRIMARY KEY,
    version    BIGINT NOT NULL
);
