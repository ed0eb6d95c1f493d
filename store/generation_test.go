package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mpr/test/engine"
)

// dsns are databases of both engines; of PostgreSQL where there is a server. A database of its own,
// which names no schema, is what most deployments have; those of the tests name one.
func dsns(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"SQLite": engine.SQLite(t)}
	if engine.Server() != "" {
		all["PostgreSQL"], all["PostgreSQL with a schema"] = newDatabase(t), engine.Store(t)
	}
	return all
}

func newDatabase(t *testing.T) (dsn string) {
	t.Helper()
	admin, err := sql.Open("pgx", engine.Server())
	must(t, err)
	name := "store_" + strings.ToLower(rand.Text())
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	must(t, err)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE "+name)
		must(t, errors.Join(err, admin.Close()))
	})
	u, err := url.Parse(engine.Server())
	must(t, err)
	u.Path = "/" + name
	return u.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGenerationsStandBesideOneAnother(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			// is wants a generation to have that number, or gives it to a new one.
			is := func(generation int, isNew bool) {
				t.Helper()
				db, err := OpenGeneration(t.Context(), dsn, generation, migrations)
				must(t, err)
				want := int64(100 + generation)
				if isNew {
					must(t, db.Write(t.Context(), func(tx *sql.Tx) error {
						_, err := tx.ExecContext(t.Context(), `UPDATE counters SET value = value + $1 WHERE name = 'a'`, want)
						return err
					}))
				}
				if got := value(t, db, "a"); got != want {
					t.Errorf("generation %d has %d", generation, got)
				}
				must(t, db.Close())
			}
			for generation := range 4 {
				is(generation, true)
			}
			must(t, KeepGenerations(t.Context(), dsn, 2, 7))
			for generation, isNew := range []bool{false, true, false, true} {
				is(generation, isNew)
			}
			must(t, KeepGenerations(t.Context(), dsn))
			is(0, false)
			is(2, true)
		})
	}
}

// All processes of a role open a new generation at the same time.
func TestANewGenerationIsOpenedByMany(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			var opening sync.WaitGroup
			for range 4 {
				opening.Go(func() {
					db, err := OpenGeneration(t.Context(), dsn, 1, migrations)
					if err != nil {
						t.Error(err)
						return
					}
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			opening.Wait()
		})
	}
}

func TestOnlyGenerationsAreDeleted(t *testing.T) {
	dir := t.TempDir()
	kept := []string{"a.db", "generation-", "generation-3", "generation-x", "generations-9", "other"}
	for _, name := range append(slices.Clone(kept), "generation-1", "generation-22") {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	must(t, KeepGenerations(t.Context(), "sqlite:"+filepath.Join(dir, "a.db"), 3))
	entries, err := os.ReadDir(dir)
	must(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if !slices.Equal(left, kept) {
		t.Errorf("left are %v", left)
	}
	must(t, KeepGenerations(t.Context(), "sqlite:"+filepath.Join(dir, "nowhere", "a.db")))
}

// A snapshot sees what was there when it began.
func TestSnapshot(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			db, err := Open(t.Context(), dsn, migrations)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			must(t, db.Snapshot(t.Context(), func(tx *sql.Tx) error {
				for i := range 2 {
					var v int64
					if err := tx.QueryRowContext(t.Context(), `SELECT value FROM counters WHERE name = 'a'`).Scan(&v); err != nil {
						return err
					}
					if v != 0 {
						t.Errorf("read %d of them: %d", i, v)
					}
					must(t, db.Write(t.Context(), func(tx *sql.Tx) error {
						_, err := tx.ExecContext(t.Context(), `UPDATE counters SET value = value + 1`)
						return err
					}))
				}
				return nil
			}))
		})
	}
}
