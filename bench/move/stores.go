package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"mpr/company"
	"mpr/region"
	"mpr/store"
)

const (
	sqlite   = "sqlite"
	postgres = "postgres"
	// rowsOfProject is how many RFIs a project has.
	rowsOfProject = 100
	// seedAtOnce is how many rows are made in one transaction.
	seedAtOnce = 50_000
)

// question is what each RFI asks: the JSON of a row has about 350 bytes.
var question = strings.Repeat("what is the question? ", 10)

// openStores names the regions' databases, and makes those on PostgreSQL.
func (s *system) openStores(ctx context.Context) error {
	s.stores = map[company.Region]string{}
	for i, code := range []company.Region{here, there} {
		switch s.o.engines[i] {
		case sqlite:
			s.stores[code] = "sqlite:" + filepath.Join(s.dir, string(code)+".db")
		case postgres:
			dsn, err := s.makeDatabase(ctx, "mpr_bench_"+strings.ToLower(string(code)))
			if err != nil {
				return err
			}
			s.stores[code] = dsn
		default:
			return fmt.Errorf("there is no engine %q", s.o.engines[i])
		}
	}
	return nil
}

// makeDatabase makes a database anew, and has it dropped at the end.
func (s *system) makeDatabase(ctx context.Context, name string) (string, error) {
	if s.o.postgres == "" {
		return "", errors.New("the engine postgres needs --postgres DSN, of a server on which databases may be made")
	}
	dsn, err := url.Parse(s.o.postgres)
	if err != nil {
		return "", errors.New("--postgres: the DSN is malformed") // the error may show the password
	}
	server, err := sql.Open("pgx", s.o.postgres)
	if err != nil {
		return "", errors.New("--postgres: the DSN is malformed")
	}
	drop := "DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"
	for _, do := range []string{drop, "CREATE DATABASE " + name} {
		if _, err := server.ExecContext(ctx, do); err != nil {
			return "", errors.Join(fmt.Errorf("make a database: %w", err), server.Close())
		}
	}
	s.closes = append(s.closes, func() error {
		_, err := server.ExecContext(context.WithoutCancel(ctx), drop)
		return errors.Join(err, server.Close())
	})
	dsn.Path = "/" + name
	return dsn.String(), nil
}

// enlarge gives a company that many RFIs, and their projects, straight into the store: through
// the door it would take longer than all that is measured.
func (s *system) enlarge(ctx context.Context, where company.Region, id company.ID, rows int) (err error) {
	db, err := store.Open(ctx, s.stores[where], region.Migrations())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for from := 0; from < rows; from += seedAtOnce {
		until := min(from+seedAtOnce, rows)
		err := db.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $3)
				INSERT INTO rfis (company_id, project_id, rfi_id, number, subject, question, status, created, updated)
				SELECT CAST($1 AS BIGINT), 1 + i / 100, 1 + i, 1 + i % 100, 'RFI ' || i, $4, 'open', i, i FROM n`, int64(id), from, until, question)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $3)
				INSERT INTO projects (company_id, project_id, name, project_number, active, created, updated)
				SELECT CAST($1 AS BIGINT), 1 + i, 'Project ' || i, '', 1, i, i FROM n`, int64(id), from/rowsOfProject, (until+rowsOfProject-1)/rowsOfProject)
			return err
		})
		if err != nil {
			return fmt.Errorf("make rows: %w", err)
		}
	}
	return nil
}
