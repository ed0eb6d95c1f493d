-- +goose Up

-- Which bucket the revocations were published to: when it was made, and the newest record
-- that it has had. Another bucket, or one that has gone back, is told all of them again.
CREATE TABLE published_to (
    bucket   TEXT   PRIMARY KEY,
    made     BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
