package store

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"mpr/problem"
)

// versions are the counters' migrations and so many more.
func versions(more ...string) fstest.MapFS {
	all := fstest.MapFS{"00001_counters.sql": migrations["00001_counters.sql"]}
	for i, text := range more {
		all["0000"+string(rune('2'+i))+"_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text + "\n")}
	}
	return all
}

const adds = `ALTER TABLE counters ADD COLUMN note TEXT NOT NULL DEFAULT '';`

func checking() Options {
	o := Defaults()
	o.Check = true
	return o
}

func TestAnOlderSchemaIsRefusedWhereItIsOnlyChecked(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			refuses := func(files fstest.MapFS) {
				t.Helper()
				db, err := checking().Open(t.Context(), dsn, files)
				if !errors.Is(err, ErrSchemaOld) || !strings.Contains(err.Error(), "mpr db migrate") {
					t.Errorf("opened with %v", err)
				}
				if err == nil {
					must(t, db.Close())
				}
			}
			refuses(versions())
			o := Defaults()
			must(t, o.Migrate(t.Context(), dsn, 0, Schema{Migrations: versions()}))
			db, err := checking().Open(t.Context(), dsn, versions())
			must(t, err)
			must(t, db.Close())
			refuses(versions(adds))
			must(t, o.Migrate(t.Context(), dsn, 0, Schema{Migrations: versions(adds)}))
			must(t, o.Migrate(t.Context(), dsn, 0, Schema{Migrations: versions(adds)}))
			db, err = checking().OpenGeneration(t.Context(), dsn, 1, versions(adds)) // a new one is made by ourselves
			must(t, err)
			must(t, db.Close())
			db, err = checking().OpenGeneration(t.Context(), dsn, 1, versions(adds, adds))
			if !errors.Is(err, ErrSchemaOld) {
				t.Errorf("opened an older generation with %v", err)
				must(t, db.Close())
			}
			list, err := Generations(t.Context(), dsn)
			if must(t, err); !slices.Equal(list, []int{1}) {
				t.Errorf("generations %v", list)
			}
		})
	}
}

// Old processes run on while newer ones have migrated, and start again, until something
// that they use is taken away.
func TestANewerSchemaServesOlderBinaries(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			old, err := Open(t.Context(), dsn, versions())
			must(t, err)
			defer func() { must(t, old.Close()) }()
			must(t, Defaults().Migrate(t.Context(), dsn, 0, Schema{Migrations: versions(adds)}))
			count := func(db *DB) error {
				return db.Write(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), `INSERT INTO counters (name, value) VALUES ('old' || (SELECT COUNT(*) FROM counters), 1)`)
					return err
				})
			}
			must(t, count(old))
			for _, o := range []Options{Defaults(), checking()} {
				again, err := o.Open(t.Context(), dsn, versions())
				must(t, err)
				must(t, count(again))
				must(t, again.Close())
			}
			contracts := versions(adds, "-- contract: needs 2\nALTER TABLE counters DROP COLUMN value;")
			must(t, Defaults().Migrate(t.Context(), dsn, 0, Schema{Migrations: contracts}))
			if db, err := Open(t.Context(), dsn, versions()); !errors.Is(err, ErrSchemaNew) {
				t.Errorf("opened with %v", err)
				must(t, db.Close())
			}
			db, err := Open(t.Context(), dsn, versions(adds)) // it knows migration 2
			must(t, err)
			must(t, db.Close())
		})
	}
}

func TestInspectChangesNothing(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			parts := []Schema{{Migrations: versions(adds)}, {Versions: "part_version", Migrations: fstest.MapFS{"00001_part.sql": {Data: []byte("-- +goose Up\nCREATE TABLE part (id BIGINT);\n")}}}}
			inspect := func() []Status {
				t.Helper()
				all, err := Defaults().Inspect(t.Context(), dsn, 0, parts...)
				must(t, err)
				return all
			}
			if s := inspect(); s[0].Version != 0 || !slices.Equal(s[0].Pending, []int64{1, 2}) || s[1].Known != 1 {
				t.Errorf("before: %+v", s)
			}
			if path, is := strings.CutPrefix(dsn, "sqlite:"); is {
				if _, err := os.Stat(path); err == nil {
					t.Error("it has made the file")
				}
			}
			db, err := Open(t.Context(), dsn, versions())
			must(t, err)
			defer func() { must(t, db.Close()) }()
			if s := inspect(); s[0].Version != 1 || !slices.Equal(s[0].Pending, []int64{2}) || len(s[1].Pending) != 1 {
				t.Errorf("in between: %+v", s)
			}
			must(t, Defaults().Migrate(t.Context(), dsn, 0, parts...)) // while it is in use
			if s := inspect(); s[0].Check() != nil || s[1].Check() != nil || s[0].Version != 2 {
				t.Errorf("afterwards: %+v", s)
			}
		})
	}
}

func TestWhereShowsNoPassword(t *testing.T) {
	for dsn, want := range map[string]string{
		"sqlite:a/b.db": "a/b.db",
		"postgres://u:hunter2@db.internal:5433/mpr?sslmode=require": "postgres://db.internal:5433/mpr",
		"postgres://u:hunter2@/mpr?host=/run/x&password=hunter2":    "postgres:///run/x/mpr",
		"postgres://u:hunter2@h/mpr?search_path=s":                  "postgres://h/mpr, schema s",
		"postgres://u:hunter2@[bad":                                 "(malformed)",
	} {
		if got := Where(dsn, 0); got != want {
			t.Errorf("%q is at %q, want %q", dsn, got, want)
		}
	}
	if got := Where("sqlite:"+filepath.Join("a", "b.db"), 3); got != filepath.Join("a", "generation-3", "b.db") {
		t.Error(got)
	}
	_, err := Open(t.Context(), "postgres://u:hunter2@127.0.0.1:1/mpr?connect_timeout=1", migrations)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !IsAway(err) {
		t.Errorf("a server that isn't there: %v", err)
	}
}

// What a statement, a lock and an idle transaction may take; a snapshot may take longer.
func TestPostgresLimits(t *testing.T) {
	for engine, dsn := range dsns(t) {
		if !isPostgres(dsn) {
			continue
		}
		t.Run(engine, func(t *testing.T) {
			o := Defaults()
			o.StatementTimeout, o.LockTimeout, o.IdleTransaction = 200*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond
			db, err := o.Open(t.Context(), dsn, migrations)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			exec := func(statement string) func(tx *sql.Tx) error {
				return func(tx *sql.Tx) error { _, err := tx.ExecContext(t.Context(), statement); return err }
			}
			slow := problem.New(problem.StoreUnavailable, "")
			if err := db.Write(t.Context(), exec(`SELECT pg_sleep(10)`)); !errors.Is(Explain(err), slow) {
				t.Errorf("a slow statement: %v", err)
			}
			must(t, db.Snapshot(t.Context(), exec(`SELECT pg_sleep(0.4)`)))
			must(t, db.Write(t.Context(), func(tx *sql.Tx) error {
				if err := exec(`UPDATE counters SET value = 1 WHERE name = 'a'`)(tx); err != nil {
					return err
				}
				if err := db.Write(t.Context(), exec(`UPDATE counters SET value = 2 WHERE name = 'a'`)); !errors.Is(Explain(err), slow) {
					t.Errorf("a row that is held: %v", err)
				}
				return nil
			}))
			if got := value(t, db, "a"); got != 1 {
				t.Errorf("the value is %d", got)
			}
		})
	}
}

// Versions are numbers, which the schema of another store has as well: where the configuration leads
// to that, nothing is migrated and nothing opened.
func TestTheDatabaseOfAnotherStore(t *testing.T) {
	for engine, dsn := range dsns(t) {
		t.Run(engine, func(t *testing.T) {
			foreign := fstest.MapFS{"00001_other.sql": {Data: []byte("-- +goose Up\nCREATE TABLE other (id BIGINT);\n")}}
			db, err := Open(t.Context(), dsn, foreign)
			must(t, err)
			must(t, db.Close())
			if db, err := Open(t.Context(), dsn, versions(adds)); !errors.Is(err, ErrSchemaForeign) {
				t.Errorf("opened with %v", err)
				must(t, db.Close())
			}
			if err := Defaults().Migrate(t.Context(), dsn, 0, Schema{Migrations: versions(adds)}); !errors.Is(err, ErrSchemaForeign) {
				t.Errorf("migrated with %v", err)
			}
			db, err = Open(t.Context(), dsn, foreign)
			must(t, err)
			must(t, db.Close())
		})
	}
}
