package stack

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
)

// to moves the company, and has the source keep the rows for so long.
func (s *site) to(code company.Region, retention time.Duration) *move.Move {
	s.t.Helper()
	mover := s.moverThatKeeps(retention, 0, nil)
	m := s.over(s.request(code).ID)
	s.check(mover.Close())
	if m.Phase != move.Retained {
		s.t.Fatalf("ended as %+v", m)
	}
	return m
}

// rows counts the projects that a region has of the company.
func (s *site) rows(code company.Region) (n int) {
	s.t.Helper()
	s.check(s.regions[code].Read().QueryRowContext(s.t.Context(), `SELECT COUNT(*) FROM projects WHERE company_id = $1`, int64(s.company)).Scan(&n))
	return n
}

// "The source keeps the data for the retention time": of the last time that the company left it.
func TestRowsAreKeptFromTheLastLeaveOn(t *testing.T) {
	s := newSite(t)
	s.more()
	first := s.to("EU01", time.Hour)
	s.to("US02", 24*time.Hour)
	s.to("EU01", 24*time.Hour)
	later := s.mover(2*time.Hour, nil) // when the first move's time is over
	s.purged(first.ID)
	s.check(later.Close())
	if n := s.rows("US02"); n != 3 {
		t.Errorf("%d projects are kept, want 3", n)
	}
	if back := s.to("US02", time.Hour); !back.Reused {
		t.Error("the way back brings all rows")
	}
}

// A move whose source can't be reached for long, when it is time to delete what is there, takes many
// turns for that. The company may be on its way to a third region by then.
func TestOldMovesDoNotStandInTheWay(t *testing.T) {
	s := newSiteOf(t, siteOptions{third: true})
	s.more()
	first := s.to("EU01", 3*time.Second)
	there, on := make(chan struct{}), make(chan struct{})
	var once sync.Once
	mover := s.mover(0, func(_ context.Context, m *move.Move, name string) error {
		if name == "rows" {
			once.Do(func() { close(there); <-on })
		}
		return nil
	})
	second := s.request(thirdRegion)
	<-there
	s.check(s.queue.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE moves SET turn = turn + 50 WHERE id = $1`, first.ID)
		return err
	}))
	s.purged(first.ID)
	close(on)
	ended := s.overWithin(second.ID, 20*time.Second)
	s.check(mover.Close())
	if ended.Phase != move.Retained || s.rows("US02") != 0 || s.rows("EU01") != 3 || s.rows(thirdRegion) != 3 {
		t.Errorf("ended as %+v; there are %d, %d and %d projects", ended, s.rows("US02"), s.rows("EU01"), s.rows(thirdRegion))
	}
}
