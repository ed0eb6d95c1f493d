-- +goose Up
-- Where apps hear of what happens to their companies. It is no part of apps, whose rows the
-- monthly sandbox gets a copy of: what happens there is nothing that production's URLs hear of.
CREATE TABLE app_webhooks (
    app_id         BIGINT PRIMARY KEY,
    url            TEXT   NOT NULL, -- empty: it was removed
    generation     BIGINT NOT NULL, -- of the secret, which is derived from it: it only grows, so that none comes back
    previous_until BIGINT NOT NULL  -- until when the secret of the generation before signs, too; 0: it doesn't
);
