-- +goose Up

-- The last id that was given out, in this region's block.
CREATE TABLE ids (region TEXT PRIMARY KEY, last BIGINT NOT NULL);

-- The fence. version counts the changes of the company's data: each write takes the next
-- one here, and with it the row's lock, which a freeze takes too.
CREATE TABLE fence (
    company_id  BIGINT PRIMARY KEY,
    epoch       BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('owned', 'frozen', 'gone')),
    version     BIGINT NOT NULL,
    gone_region TEXT   NOT NULL, -- where it went; empty: not known, or it is here
    gone_epoch  BIGINT NOT NULL
);

-- Which key made which company. Not with the company: two regions may have been given the
-- same key, and a company that went elsewhere must not be made a second time.
CREATE TABLE creations (
    idempotency_key TEXT   PRIMARY KEY,
    company_id      BIGINT NOT NULL
);

-- The tables of companies' data. Keys start with the company, so that a company's rows
-- stand together. There are no foreign keys: a company's rows arrive table by table when
-- it moves, and all its writes stand in one line behind its fence anyway.

CREATE TABLE companies (
    company_id BIGINT PRIMARY KEY,
    name       TEXT   NOT NULL,
    onboarded  TEXT   NOT NULL, -- a day: 2019-01-01
    created    BIGINT NOT NULL,
    updated    BIGINT NOT NULL
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
    company_id     BIGINT NOT NULL,
    project_id     BIGINT NOT NULL,
    name           TEXT   NOT NULL,
    project_number TEXT   NOT NULL,
    active         BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    updated        BIGINT NOT NULL,
    PRIMARY KEY (company_id, project_id)
);

CREATE TABLE project_users (
    company_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (company_id, project_id, user_id)
);
CREATE INDEX project_users_user ON project_users (company_id, user_id);

CREATE TABLE rfis (
    company_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    rfi_id     BIGINT NOT NULL,
    number     BIGINT NOT NULL, -- counts within the project
    subject    TEXT   NOT NULL,
    question   TEXT   NOT NULL,
    status     TEXT   NOT NULL, -- open, closed
    created    BIGINT NOT NULL,
    updated    BIGINT NOT NULL,
    PRIMARY KEY (company_id, project_id, rfi_id)
);
CREATE UNIQUE INDEX rfis_number ON rfis (company_id, project_id, number);

-- What was changed, in the order of each company's versions. data is the row after the
-- change, as a JSON object of its columns; where it was deleted, of its key.
CREATE TABLE change_log (
    company_id BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    name       TEXT   NOT NULL, -- the table's
    deleted    BIGINT NOT NULL,
    data       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    published  BIGINT NOT NULL, -- 1: the global index has it, or doesn't want it
    PRIMARY KEY (company_id, version)
);
CREATE INDEX change_log_unpublished ON change_log (company_id, version) WHERE published = 0;
CREATE INDEX change_log_at ON change_log (at);
