-- +goose Up

-- What apps are told. The id is the one that they see, the body what is signed; both stay the
-- same however often an event is sent. heard: each app was tried once.
CREATE TABLE webhook_events (
    id          TEXT   PRIMARY KEY,
    environment TEXT   NOT NULL,
    company_id  BIGINT NOT NULL,
    move_id     TEXT   NOT NULL,
    type        TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    body        TEXT   NOT NULL,
    heard       BIGINT NOT NULL
);
CREATE INDEX webhook_events_at ON webhook_events (at);

-- A delivery is an event on its way to an app. turn counts who has taken it up, lease is until
-- when whoever did is taken to be alive; times are Unix microseconds.
CREATE TABLE webhook_deliveries (
    event_id    TEXT   NOT NULL,
    app_id      BIGINT NOT NULL,
    environment TEXT   NOT NULL,
    state       TEXT   NOT NULL, -- waiting, delivered, given up
    attempts    BIGINT NOT NULL,
    step        BIGINT NOT NULL, -- attempts that failed since it began, or began anew
    next        BIGINT NOT NULL,
    turn        BIGINT NOT NULL,
    lease       BIGINT NOT NULL,
    status      BIGINT NOT NULL, -- of the last answer; 0: there was none
    problem     TEXT   NOT NULL, -- of the last attempt
    last        BIGINT NOT NULL, -- when that was
    PRIMARY KEY (event_id, app_id)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_leased ON webhook_deliveries (environment, app_id, lease) WHERE lease > 0;
CREATE INDEX webhook_deliveries_by_app ON webhook_deliveries (environment, app_id);
