-- +goose Up

-- The users to whom apps belong: they see and change these, and no others, without a role. The login
-- stands here for the same reason as with roles.
CREATE TABLE operator_app_owners (
    environment TEXT   NOT NULL,
    client_id   TEXT   NOT NULL,
    user_id     BIGINT NOT NULL,
    login       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    added       BIGINT NOT NULL,
    added_by    TEXT   NOT NULL,
    PRIMARY KEY (environment, client_id, user_id)
);
CREATE INDEX operator_app_owners_user ON operator_app_owners (environment, user_id, login, client_id);
