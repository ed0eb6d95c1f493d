-- +goose Up
-- The legacy door finds the company of a call by its project.
CREATE INDEX IF NOT EXISTS projects_by_id ON projects (project_id);
