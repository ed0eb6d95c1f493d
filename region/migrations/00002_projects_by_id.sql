-- +goose Up
-- The legacy door finds the company of a call by its project.
CREATE INDEX projects_by_id ON projects (project_id);
