package region_test

import (
	"sync"
	"testing"

	"mpr/region"
	"mpr/test/engine"
)

// Processes of one region may start at the same time on a new database.
func TestProcessesOfARegionStartTogether(t *testing.T) {
	w := &world{t: t, dsn: engine.Store(t)}
	w.db = w.open()
	t.Cleanup(func() { check(t, w.db.Close()) })
	w.publisher, w.identity = &publisher{}, &identity{}
	w.publisher.away.Store(true)
	var starting sync.WaitGroup
	for range 6 {
		starting.Go(func() {
			s, err := region.New(t.Context(), w.options())
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
}
