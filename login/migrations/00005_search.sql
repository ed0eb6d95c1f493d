-- +goose Up

-- The words of the names of companies and apps, as bytes in hexadecimal digits: these sort alike on
-- every engine and in every locale, so that a beginning of a word is a range.
CREATE TABLE search_words (
    kind TEXT   NOT NULL, -- company, app
    word TEXT   NOT NULL,
    id   BIGINT NOT NULL,
    PRIMARY KEY (kind, word, id)
);
-- The name whose words are there; older processes leave it behind when they write another name.
ALTER TABLE index_companies ADD COLUMN searched_name TEXT NOT NULL DEFAULT '';
ALTER TABLE apps ADD COLUMN searched_name TEXT NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS index_companies_unsearched ON index_companies (company_id) WHERE searched_name <> name;
CREATE INDEX IF NOT EXISTS apps_unsearched ON apps (id) WHERE searched_name <> name;
