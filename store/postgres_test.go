package store

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// emptyDatabase makes a database for the test on a PostgreSQL server.
func emptyDatabase(t *testing.T, dsn string) string {
	t.Helper()
	server, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	name := fmt.Sprintf("store_%d_%s", os.Getpid(), strings.ToLower(t.Name()))
	if _, err := server.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Exec(`DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Processes of one role may start at the same time on a new database of a PostgreSQL
// server. A SQLite file has one process: without MPR_TEST_POSTGRES there is nothing to try.
func TestOneOfManyMigrates(t *testing.T) {
	server := os.Getenv("MPR_TEST_POSTGRES")
	if server == "" {
		return
	}
	dsn := emptyDatabase(t, server)
	slow := fstest.MapFS{"00001_slow.sql": {Data: []byte("-- +goose Up\nCREATE TABLE slow (id BIGINT);\nSELECT pg_sleep(0.2);\n")}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := Open(t.Context(), dsn, slow)
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
