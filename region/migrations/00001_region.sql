-- +goose Up

-- The last id that was given out, in this region's block.
CREATE TABLE ids (region TEXT PRIMARY KEY, last BIGINT NOT NULL);

-- The fence. version counts the changes of the company's data: each write takes the next
-- one here, and with it the row's lock, which a freeze takes too.
CREATE TABLE fence (
    company_id  BIGINT PRIMARY KEY,
    epoch       BIGINT NOT NULL,
    state       TEXT   NOT NULL, -- owned, frozen, gone
    version     BIGINT NOT NULL,
    gone_region TEXT   NOT NULL, -- where it went; empty: not known, or it is here
    gone_epoch  BIGINT NOT NULL
);

CREATE TABLE companies (
    company_id      BIGINT PRIMARY KEY,
    name            TEXT   NOT NULL,
    onboarded       BIGINT NOT NULL,
    idempotency_key TEXT   NOT NULL UNIQUE,
    created         BIGINT NOT NULL,
    updated         BIGINT NOT NULL
);

CREATE TABLE memberships (
    company_id BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    login      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    job_title  TEXT   NOT NULL,
    is_active  BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    updated    BIGINT NOT NULL,
    PRIMARY KEY (company_id, user_id)
);
CREATE UNIQUE INDEX memberships_login ON memberships (company_id, login);

CREATE TABLE installations (
    company_id  BIGINT NOT NULL,
    app_id      BIGINT NOT NULL,
    client_id   TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    permits_all BIGINT NOT NULL, -- 1: all projects; 0: those in permitted_projects
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    PRIMARY KEY (company_id, app_id)
);

CREATE TABLE permitted_projects (
    company_id BIGINT NOT NULL,
    app_id     BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    PRIMARY KEY (company_id, app_id, project_id)
);

CREATE TABLE projects (
    id             BIGINT PRIMARY KEY,
    company_id     BIGINT NOT NULL,
    name           TEXT   NOT NULL,
    project_number TEXT   NOT NULL,
    active         BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    updated        BIGINT NOT NULL
);
CREATE INDEX projects_company ON projects (company_id, id);

CREATE TABLE project_users (
    company_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX project_users_company ON project_users (company_id, user_id);

CREATE TABLE rfis (
    id         BIGINT PRIMARY KEY,
    company_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    subject    TEXT   NOT NULL,
    question   TEXT   NOT NULL,
    status     TEXT   NOT NULL, -- open, closed
    created    BIGINT NOT NULL,
    updated    BIGINT NOT NULL
);
CREATE UNIQUE INDEX rfis_number ON rfis (project_id, number);
CREATE INDEX rfis_company ON rfis (company_id, project_id, id);

-- What was changed, in the order of each company's versions. data is the row after the
-- change, as JSON; empty where it was deleted.
CREATE TABLE change_log (
    company_id BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    kind       TEXT   NOT NULL,
    key        BIGINT NOT NULL,
    deleted    BIGINT NOT NULL,
    data       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    published  BIGINT NOT NULL, -- 1: the global index has it, or doesn't want it
    PRIMARY KEY (company_id, version)
);
CREATE INDEX change_log_unpublished ON change_log (published, at);
