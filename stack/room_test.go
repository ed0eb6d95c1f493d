package stack

import (
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
)

// until waits until a move is as it should be, and answers it.
func (s *site) until(id, what string, is func(*move.Move) bool) *move.Move {
	s.t.Helper()
	q := &move.Queue{DB: s.queue, Now: time.Now}
	limit := time.Now().Add(2 * time.Minute)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		m, err := q.Get(s.t.Context(), "site", id)
		s.check(err)
		if is(m) {
			tick.Stop()
			return m
		}
		if m.Phase.Over() || time.Now().After(limit) {
			s.t.Fatalf("not %s: %+v", what, m)
		}
	}
}

// A move to a region without room waits before it copies anything, says what to do, holds
// nobody else up, and goes on when there is room.
func TestMovesWaitForRoom(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, siteOptions{maxStore: map[company.Region]int64{"EU01": 1}})
	x := s.write()
	mover := s.mover(0, nil)
	m := s.request("EU01")
	waits := s.until(m.ID, "waiting for room", func(m *move.Move) bool { return m.Problem != "" })
	for _, want := range []string{"EU01 has no room", "the company takes about ", "0 bytes are free", "Make room", "max_store_bytes", "mpr move abort " + s.company.String()} {
		if !strings.Contains(waits.Problem, want) {
			t.Errorf("the problem is %q, which doesn't say %q", waits.Problem, want)
		}
	}
	if waits.Phase != move.Queued || waits.Bytes < 100 || waits.Rows == 0 || !waits.Started.IsZero() {
		t.Errorf("it waits as %+v", waits)
	}
	if n := s.owners(); n != 1 {
		t.Errorf("%d regions own the company", n)
	}
	s.startRegion("EU01", 0)
	q := &move.Queue{DB: s.queue, Now: time.Now}
	s.check(q.Pause(t.Context(), waits, false, "the test")) // it needn't wait until it looks again
	mover.Wake()
	ended := s.over(m.ID)
	s.check(mover.Close())
	x.end()
	if ended.Phase != move.Retained || ended.Problem != "" {
		t.Errorf("ended as %+v", ended)
	}
	s.one(x)
}
