package stack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
	"mpr/test/engine"
)

// "Large companies (10 million rows) copy in bounded memory, in chunks that commit, and resume
// where they stopped": the heap of the source and the mover, and the whole memory of the
// destination, which is killed on the way, stay as they were after the first pages, and no more
// than a page is sent twice each time that something dies.
func TestLargeCompaniesMoveInBoundedMemory(t *testing.T) {
	const (
		page      = 1000 // what a mover asks for
		tables    = 7    // each ends with a page of its own
		grows     = 24 << 20
		processes = 96 << 20 // of which SQLite's cache and the allocator's reserves are most
	)
	// With the race detector each row takes a millisecond: scripts/test.sh asks for more, without.
	rows := 16_000
	if text := os.Getenv("MPR_TEST_LARGE"); text != "" {
		if _, err := fmt.Sscan(text, &rows); err != nil {
			t.Fatalf("MPR_TEST_LARGE: %v", err)
		}
	}
	part := func(percent int64) int64 { return int64(rows) / page * percent / 100 }
	dir, there := t.TempDir(), engine.Store(t)
	var directoryAddress string
	var d *disk
	start := func(address string) (string, string) {
		directoryAddress = address
		var facts diskFacts
		d, facts, _ = startDisk(t, diskOptions{Code: "EU01", Directory: address, Dir: dir, Store: there})
		return facts.Door, facts.Internal
	}
	s := newSiteOf(t, siteOptions{apart: map[company.Region]func(string) (string, string){"EU01": start}})
	s.enlarge("US02", rows)
	x := s.write()

	var pages, stops atomic.Int64
	s.doors["US02"].seen = func(r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/rows") {
			pages.Add(1)
		}
	}
	errDead := errors.New("dead")
	var gone, restarted atomic.Bool
	var first, last uint64 // of our heap
	var firstThere, lastThere int64
	measure := func(ctx context.Context, _ *move.Move, name string) error {
		if gone.Load() {
			return errDead
		}
		if name != "rows" {
			return nil
		}
		switch n := pages.Load(); {
		case n == part(15):
			first, firstThere = heap(), d.memory()
		case n == part(30): // the destination is killed, and comes back at another address
			if stops.CompareAndSwap(0, 1) {
				d.kill()
				door, internal := start(directoryAddress)
				s.internal["EU01"] = internal
				restarted.Store(true)
				return s.directory.PutRegion(ctx, company.RegionInfo{Code: "EU01", Number: siteNumbers["EU01"], Upstreams: []string{door}, Internal: internal})
			}
		case n == part(40) && restarted.Load():
			firstThere = d.memory()
		case n == part(55): // the mover dies
			if stops.CompareAndSwap(1, 2) {
				gone.Store(true)
				return errDead
			}
		case n >= part(85):
			last, lastThere = max(last, heap()), max(lastThere, d.memory())
		}
		return nil
	}
	m := s.request("EU01")
	mover := s.mover(0, measure)
	s.until(m.ID, "at the end of its first mover", func(*move.Move) bool { return gone.Load() })
	s.check(mover.Close())
	gone.Store(false)
	mover = s.mover(time.Hour, measure)
	s.until(m.ID, "copied", func(m *move.Move) bool { return m.Phase != move.Queued && m.Phase != move.Copying })
	copied := pages.Load()
	ended := s.overWithin(m.ID, 3*time.Minute)
	s.check(mover.Close())
	x.end()
	if ended.Phase != move.Retained || ended.Rows < int64(rows) {
		t.Errorf("ended as %+v", ended)
	}
	if most := int64(rows/page + tables + 2 + 3); stops.Load() != 2 || copied > most {
		t.Errorf("%d pages were sent for %d rows, with %d interruptions: expected %d at the most", copied, rows, stops.Load(), most)
	}
	t.Logf("heap: %d MB after the first pages, %d at the end; destination: %d MB, %d at the end", first>>20, last>>20, firstThere>>20, lastThere>>20)
	if first == 0 || last > first+grows {
		t.Errorf("the heap grew from %d to %d bytes", first, last)
	}
	if firstThere == 0 || lastThere > firstThere+processes {
		t.Errorf("the destination grew from %d to %d bytes", firstThere, lastThere)
	}
	s.one(x)
}

// enlarge gives the company that many RFIs, straight into the store.
func (s *site) enlarge(code company.Region, rows int) {
	s.t.Helper()
	text := strings.Repeat("what is the question? ", 10)
	for from := 0; from < rows; from += 10_000 {
		s.check(s.regions[code].Write(s.t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`WITH RECURSIVE n(i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $3)
				INSERT INTO rfis (company_id, project_id, rfi_id, number, subject, question, status, created, updated)
				SELECT $1, i / 100, i, i, 'RFI ' || i, $4, 'open', i, i FROM n`, int64(s.company), from, min(from+10_000, rows), text)
			return err
		}))
	}
}

// heap is what is alive of ours.
func heap() uint64 {
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	return now.HeapAlloc
}

// memory is what the process has in memory, in bytes.
func (d *disk) memory() (bytes int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.pid))
	if err != nil {
		return 0
	}
	var all, resident int64
	_, _ = fmt.Sscan(string(text), &all, &resident)
	return resident * int64(os.Getpagesize())
}
