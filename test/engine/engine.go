package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Variable names the environment variable that has all tests use PostgreSQL.
const Variable = "MPR_TEST_POSTGRES"

// Server is the DSN of the tests' PostgreSQL server; "" where they use SQLite. It is read while
// tests run, so that their cached results depend on it.
func Server() string { return os.Getenv(Variable) }

// Store names a database that is the test's own: a SQLite file, or a schema that isn't there yet.
func Store(t testing.TB) (dsn string) {
	t.Helper()
	if Server() == "" {
		return SQLite(t)
	}
	return Stores(t)
}

// SQLite names a file of the test's own, whatever engine the others use.
func SQLite(t testing.TB) (dsn string) {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "store.db")
}

// Stores is what a whole system is told by stores.dsn, --stores or MPR_STORES: "" for SQLite files in
// its data folder, or a database in which it may make schemas, whose names begin as nobody else's.
func Stores(t testing.TB) (dsn string) {
	t.Helper()
	dsn, drop, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// Open is [Stores] for those who have no test; drop deletes the schemas.
func Open() (dsn string, drop func() error, err error) {
	if Server() == "" {
		return "", func() error { return nil }, nil
	}
	u, err := url.Parse(Server())
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", Variable, err)
	}
	name := "t" + strings.ToLower(rand.Text()[:12])
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String(), func() error { return dropAll(name) }, nil
}

// admin is what schemas are dropped with.
var admin = sync.OnceValues(func() (*sql.DB, error) {
	db, err := sql.Open("pgx", Server())
	if err == nil {
		db.SetMaxIdleConns(1)
	}
	return db, err
})

// dropAll deletes all schemas whose names begin so. A process that was killed may still be at work
// in one, for as long as the server takes to notice.
func dropAll(prefix string) error {
	const within = time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	db, err := admin()
	if err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT nspname FROM pg_namespace WHERE starts_with(nspname::text, $1)`, prefix)
	if err != nil {
		return err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		names = append(names, pgx.Identifier{name}.Sanitize())
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(names) == 0 {
		return err
	}
	if _, err := db.ExecContext(ctx, `DROP SCHEMA `+strings.Join(names, ", ")+` CASCADE`); err != nil {
		return fmt.Errorf("drop the schemas of a test: %w", err)
	}
	return nil
}
