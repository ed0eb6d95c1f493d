package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

var migrations = fstest.MapFS{"00001_counters.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counters (name, value) VALUES ('a', 0), ('b', 0);
`)}}

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+path, migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func value(t *testing.T, db *DB, name string) (v int64) {
	t.Helper()
	if err := db.Read().QueryRowContext(t.Context(), `SELECT value FROM counters WHERE name = $1`, name).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestConcurrentWritesAreAllCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space & ?.db")
	db, other := open(t, path), open(t, path) // two processes on one file
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			db := []*DB{db, other}[i%2]
			err := db.Write(t.Context(), func(tx *sql.Tx) error {
				var v int64
				if err := tx.QueryRowContext(t.Context(), `SELECT value FROM counters WHERE name = 'a'`).Scan(&v); err != nil {
					return err
				}
				_, err := tx.ExecContext(t.Context(), `UPDATE counters SET value = $2 WHERE name = $1`, "a", v+1)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := value(t, db, "a"); got != 40 {
		t.Errorf("counted %d of 40 writes", got)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	broken := errors.New("broken")
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `UPDATE counters SET value = 7 WHERE name = 'b'`); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
	if got := value(t, db, "b"); got != 0 {
		t.Errorf("value %d after a failed write", got)
	}
}

func TestDuplicateIsToldApart(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	insert := func(name any) error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO counters (name, value) VALUES ($1, 1)`, name)
			return err
		})
	}
	if err := insert("a"); !IsDuplicate(err) {
		t.Errorf("duplicate key: %v", err)
	}
	if err := insert("new"); err != nil {
		t.Errorf("insert: %v", err)
	}
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO counters (name, value) VALUES ('x', NULL)`)
		return err
	})
	if err == nil || IsDuplicate(err) {
		t.Errorf("not null: %v", err)
	}
}

func TestFileIsPrivateAndDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := open(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := db.Read().QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", pragma, got, err, want)
		}
	}
}

func TestBadDSN(t *testing.T) {
	for _, dsn := range []string{"", "sqlite:", "mysql://x", "postgres://u:hunter2@[bad"} {
		db, err := Open(context.Background(), dsn, migrations)
		if err == nil {
			t.Errorf("Open(%q) worked", dsn)
			_ = db.Close()
			continue
		}
		if errors.Is(err, sql.ErrNoRows) || len(err.Error()) == 0 {
			t.Errorf("Open(%q): %v", dsn, err)
		}
	}
}

// Whoever serves HTTP recovers from panics and goes on.
func TestAPanicLeavesTheDatabaseWritable(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	set := func(value int) error {
		return db.Write(context.Background(), func(tx *sql.Tx) error { // no context that ends the transaction for us
			if _, err := tx.Exec(`UPDATE counters SET value = $1 WHERE name = 'b'`, value); err != nil {
				return err
			}
			if value == 7 {
				panic("broken")
			}
			return nil
		})
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = set(7)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'b'`)
		return err
	})
	if got := value(t, db, "b"); err != nil || got != 1 {
		t.Errorf("value %d, %v", got, err)
	}
}
