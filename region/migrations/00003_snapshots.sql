-- +goose Up

-- 1: the company's administrator wants a copy of it in the monthly sandbox.
ALTER TABLE companies ADD COLUMN monthly_sandbox BIGINT NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS companies_monthly_sandbox ON companies (company_id) WHERE monthly_sandbox = 1;

-- Companies that are being loaded. Until the last row is there they have no fence that
-- owns them, so nothing half-loaded is served. load_id keeps an earlier load that was
-- given up from writing on.
CREATE TABLE arrivals (
    company_id BIGINT PRIMARY KEY,
    load_id    TEXT   NOT NULL,
    started    BIGINT NOT NULL
);
