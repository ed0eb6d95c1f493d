package stack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"mpr/company"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/move"
	"mpr/test/engine"
)

// A pause keeps a move from going on, but no company from having an owner: where a change-over has
// begun, or the company has an owner but not all is in order yet, the next mover finishes that.
func TestPausesDoNotStopChangeOvers(t *testing.T) {
	errDead := errors.New("dead")
	for _, step := range []string{"freeze", "last changes", "commit", "activate", "release", "leave"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			x := s.write()
			q := &move.Queue{DB: s.queue, Now: time.Now}
			dead := make(chan struct{})
			var gone atomic.Bool
			first := s.mover(0, func(ctx context.Context, m *move.Move, name string) error {
				if gone.Load() {
					return errDead
				}
				if name != step {
					return nil
				}
				gone.Store(true)
				s.check(q.Pause(ctx, m, true, "the test"))
				close(dead)
				return errDead
			})
			m := s.request("EU01")
			first.Wake()
			select {
			case <-dead:
			case <-time.After(30 * time.Second):
				t.Fatal("the step doesn't come")
			}
			s.check(first.Close())
			second := s.mover(time.Hour, nil)
			// Calls are answered again, although nobody has the move go on.
			x.atLeast(x.count() + 5)
			s.check(second.Close())
			// A pause that came too late for the company ends with its part in the move.
			if p, err := q.Get(t.Context(), "site", m.ID); err != nil || p.Paused == p.Phase.Over() {
				t.Errorf("the move is neither paused nor over: %+v %v", p, err)
			}
			x.end()
			s.one(x)
		})
	}
}

// What a source keeps of a company is deleted in time, also where the move was paused or aborted
// in the moment in which it was committed.
func TestPausedMovesArePurged(t *testing.T) {
	s := newSite(t)
	q := &move.Queue{DB: s.queue, Now: time.Now}
	mover := s.mover(0, func(ctx context.Context, m *move.Move, name string) error {
		if name == "activate" {
			return q.Pause(ctx, m, true, "the test")
		}
		return nil
	})
	m := s.over(s.request("EU01").ID)
	s.check(mover.Close())
	later := s.mover(48*time.Hour, nil)
	s.purged(m.ID)
	s.check(later.Close())
}

// purged waits until all of a move is over.
func (s *site) purged(id string) *move.Move {
	s.t.Helper()
	q := &move.Queue{DB: s.queue, Now: time.Now}
	limit := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		m, err := q.Get(s.t.Context(), "site", id)
		s.check(err)
		if m.Phase == move.Done {
			tick.Stop()
			return m
		}
		if time.Now().After(limit) {
			s.t.Fatalf("the move isn't done: %+v", m)
		}
	}
}

// more founds further companies, and answers them.
func (s *site) foundMore(code company.Region, n int) (ids []company.ID) {
	s.t.Helper()
	for i := range n {
		var made struct{ ID company.ID }
		s.put("POST", s.internal[code]+"/internal/companies", fmt.Sprintf(`{"name":"More","onboarded":"2016-03-01","idempotency_key":"more %d"}`, i), &made)
		s.check(s.directory.Create(s.t.Context(), company.Placement{Company: made.ID, Region: code, Epoch: 1, Onboarded: time.Date(2016, 3, 1, 0, 0, 0, 0, time.UTC)}))
		ids = append(ids, made.ID)
	}
	return ids
}

// "A limit on moves at the same time per region": also of moves that are asked for at once, and
// where two movers look at the same time.
func TestMovesAtTheSameTime(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	q := &move.Queue{DB: s.queue, Now: time.Now}
	const atOnce = 2
	var mu sync.Mutex
	begun, most := map[string]bool{}, 0
	step := func(_ context.Context, m *move.Move, name string) error {
		mu.Lock()
		defer mu.Unlock()
		switch name {
		case "depart":
			begun[m.ID] = true
			most = max(most, len(begun))
		case "leave":
			delete(begun, m.ID)
		}
		return nil
	}
	var all []string
	for _, id := range s.foundMore("US02", 12) {
		m, err := q.Add(t.Context(), "site", "US02", move.Request{Company: id, To: "EU01", By: "the test"})
		s.check(err)
		all = append(all, m.ID)
	}
	for range 2 {
		s.closeLater(move.New(move.Options{Queue: q, Directories: map[string]move.Directory{"site": s.directory}, Secret: siteSecret,
			AtOnce: atOnce, Retention: 24 * time.Hour, Step: step}))
	}
	for _, id := range all {
		if m := s.over(id); m.Phase != move.Retained {
			t.Errorf("ended as %+v", m)
		}
	}
	if most != atOnce {
		t.Errorf("%d moves at the same time, and %d are allowed", most, atOnce)
	}
}

// A long queue, such as that of a region that is emptied, and many moves whose rows are kept don't
// keep movers from the ones that are due.
func TestLongQueues(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	s.check(s.queue.Write(t.Context(), func(tx *sql.Tx) error {
		for phase, wake := range map[string]int64{"queued": 0, "retained": time.Now().Add(time.Hour).UnixMicro(), "copying": 0} {
			n, active, paused := 10_000, 1, 0
			switch phase {
			case "retained":
				active = 0
			case "copying": // as many as there may be, and none of them goes on
				n, paused = 4, 1
			}
			_, err := tx.ExecContext(t.Context(), fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
				INSERT INTO moves (id, seq, environment, company_id, source, destination, phase, active, waits, turn, lease, wake, paused, aborting, details)
				SELECT '%s ' || i, i, 'site', i + %d, 'AP02', 'AP01', '%[2]s', %d, 1, 0, 0, %d, %d, 0, '{}' FROM n`, n, phase, len(phase)*1_000_000, active, wake, paused))
			if err != nil {
				return err
			}
		}
		return nil
	}))
	mover := s.mover(0, nil)
	m := s.overWithin(s.request("EU01").ID, 20*time.Second)
	s.check(mover.Close())
	if m.Phase != move.Retained {
		t.Errorf("ended as %+v", m)
	}
}

// While a move waits for its time the company is written to, and what was changed is compared
// before calls wait for that: the change-over has to do with the last few changes only.
func TestChangeOversCompareLittle(t *testing.T) {
	s := newSite(t)
	q := &move.Queue{DB: s.queue, Now: time.Now}
	var since atomic.Int64
	var frozen atomic.Bool
	s.doors["EU01"].seen = func(r *http.Request) {
		if !frozen.Load() {
			return
		}
		if n, err := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64); err == nil && strings.HasSuffix(r.URL.Path, "/checksum") {
			since.Store(n)
		}
	}
	m, err := q.Add(t.Context(), "site", "US02", move.Request{Company: s.company, To: "EU01", By: "the test", NotBefore: time.Now().Add(8 * time.Second)})
	s.check(err)
	mover := s.mover(0, func(_ context.Context, _ *move.Move, name string) error {
		frozen.Store(name == "last changes")
		return nil
	})
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		now, err := q.Get(t.Context(), "site", m.ID)
		s.check(err)
		if now.Phase == move.Ready {
			tick.Stop()
			break
		}
	}
	for range 60 {
		s.more()
	}
	x := s.write()
	ended := s.over(m.ID)
	s.check(mover.Close())
	x.end()
	if n := ended.Final - since.Load(); ended.Phase != move.Retained || since.Load() > 0 && n > 100 {
		t.Errorf("%d changes were compared while calls waited: %+v", n, ended)
	}
}

// What stood in the way of an owner may be over at any moment, however long it lasted.
func TestCompaniesWithoutAnOwnerAreLookedAtSoon(t *testing.T) {
	s := newSite(t)
	x := s.write()
	var failed atomic.Int64
	var last atomic.Pointer[time.Time]
	mover := s.mover(0, func(_ context.Context, _ *move.Move, name string) error {
		switch {
		case name == "commit" && failed.Load() == 0, name == "thaw" && failed.Load() < 5:
			failed.Add(1)
			last.Store(new(time.Now()))
			return errors.New("out of reach")
		case name == "thaw":
			if took := time.Since(*last.Load()); took > 6*time.Second {
				t.Errorf("the next try came %s after the last one", took)
			}
		}
		return nil
	})
	m := s.over(s.request("EU01").ID)
	s.check(mover.Close())
	x.end()
	if m.Phase != move.Retained || failed.Load() != 5 {
		t.Errorf("ended as %+v after %d failures", m, failed.Load())
	}
	s.one(x)
}

// What is kept of many companies is deleted in turn: on SQLite each deletion has all that is written
// in the region wait.
func TestPurgesAtTheSameTime(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	q := &move.Queue{DB: s.queue, Now: time.Now}
	options := move.Options{Queue: q, Directories: map[string]move.Directory{"site": s.directory}, Secret: siteSecret, AtOnce: 2, Retention: 24 * time.Hour}
	mover := move.New(options)
	var all []string
	for _, id := range s.foundMore("US02", 8) {
		m, err := q.Add(t.Context(), "site", "US02", move.Request{Company: id, To: "EU01", By: "the test"})
		s.check(err)
		all = append(all, m.ID)
	}
	for _, id := range all {
		s.over(id)
	}
	s.check(mover.Close())
	var now, most atomic.Int64
	s.doors["US02"].seen = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/purge") {
			most.Store(max(most.Load(), now.Add(1)))
			<-time.After(100 * time.Millisecond) // it takes a while
			now.Add(-1)
		}
	}
	options.Queue = &move.Queue{DB: s.queue, Now: func() time.Time { return time.Now().Add(48 * time.Hour) }}
	mover = move.New(options)
	for _, id := range all {
		s.purged(id)
	}
	s.check(mover.Close())
	if most.Load() > 2 {
		t.Errorf("%d companies were deleted at the same time", most.Load())
	}
}

// A destination that is lost for good keeps a move from being given up only until an operator says
// so; the company can move elsewhere then.
func TestALostDestinationIsLeft(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, siteOptions{third: true})
	x := s.write()
	q := &move.Queue{DB: s.queue, Now: time.Now}
	lost := company.RegionInfo{Code: "EU01", Number: siteNumbers["EU01"], Upstreams: []string{"http://127.0.0.1:1"}, Internal: "http://127.0.0.1:1"}
	var gone atomic.Bool
	mover := s.mover(0, func(ctx context.Context, _ *move.Move, name string) error {
		if name == "rows" && gone.CompareAndSwap(false, true) {
			s.check(s.directory.PutRegion(ctx, lost))
			return errors.New("the destination is lost")
		}
		return nil
	})
	m := s.request("EU01")
	mover.Wake()
	s.becomes(m.ID, func(m *move.Move) bool { return m.Problem != "" })
	s.check(q.Abort(t.Context(), m, false, "the test"))
	mover.Wake()
	s.becomes(m.ID, func(m *move.Move) bool { return m.Phase == move.Aborting && m.Problem != "" })
	if _, err := q.Add(t.Context(), "site", "US02", move.Request{Company: s.company, To: thirdRegion, By: "the test"}); err == nil {
		t.Error("a company moves elsewhere while it is moving")
	}
	s.check(q.Abort(t.Context(), m, true, "the test"))
	mover.Wake()
	if ended := s.over(m.ID); ended.Phase != move.Aborted || !ended.Leaving {
		t.Errorf("ended as %+v", ended)
	}
	elsewhere := s.request(thirdRegion)
	mover.Wake()
	if ended := s.over(elsewhere.ID); ended.Phase != move.Retained {
		t.Errorf("ended as %+v", ended)
	}
	s.check(mover.Close())
	x.end()
	s.one(x)
}
