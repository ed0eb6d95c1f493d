-- +goose Up

-- The stream by which the global index hears of this region. No backup has it: where it is another
-- one than noted here, the directory was lost or this database restored, and the index may know
-- what no longer is. Then all versions are raised to floor at least, and all that the index wants
-- is published again, company by company.
CREATE TABLE index_feed (
    id            BIGINT PRIMARY KEY CHECK (id = 1),
    made          BIGINT NOT NULL, -- when the stream was made
    floor         BIGINT NOT NULL, -- 0: it has always been this one
    after_company BIGINT NOT NULL  -- the last company that was published again; -1 before the first one
);
