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
