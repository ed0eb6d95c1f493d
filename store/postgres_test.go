package store

import (
	"sync"
	"testing"
	"testing/fstest"

	"mpr/test/engine"
)

// Processes of one role may start at the same time on a new database of a PostgreSQL
// server.
func TestOneOfManyMigrates(t *testing.T) {
	engine.Only(t)
	dsn := engine.Store(t)
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

// Schemas of one database are made where they aren't there, and migrate side by side; one is deleted
// with its generations, and the others stay.
func TestSchemasShareADatabase(t *testing.T) {
	engine.Only(t)
	slow, quick := engine.Store(t), engine.Store(t)
	busy, err := Open(t.Context(), slow, migrations)
	must(t, err)
	defer func() { must(t, busy.Close()) }()
	tx, err := busy.Read().BeginTx(t.Context(), nil) // as long as its migrations take
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	_, err = tx.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock($1)`, migrationLockOf(OwnSchema(slow)))
	must(t, err)
	for generation := range 2 {
		db, err := OpenGeneration(t.Context(), quick, generation, migrations)
		must(t, err)
		must(t, db.Close())
	}
	must(t, DropSchema(t.Context(), quick))
	list, err := Generations(t.Context(), quick)
	must(t, err)
	all, err := Defaults().Inspect(t.Context(), quick, 0, Schema{Migrations: migrations})
	must(t, err)
	if len(list) > 0 || all[0].Version != 0 {
		t.Errorf("left are generations %v and version %d", list, all[0].Version)
	}
	if got := value(t, busy, "a"); got != 0 {
		t.Errorf("the other schema has %d", got)
	}
	for _, dsn := range []string{"sqlite:a.db", engine.Server()} {
		if DropSchema(t.Context(), dsn) == nil {
			t.Errorf("something of %s was deleted", Where(dsn, 0))
		}
	}
}
