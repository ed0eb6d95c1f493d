package stack

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpr/move"
	"mpr/test/engine"
)

// telling is a site whose movers give apps time to hear of a move.
func (s *site) telling(notice time.Duration, ahead *atomic.Int64) *move.Mover {
	return move.New(move.Options{
		Queue:       &move.Queue{DB: s.queue, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }},
		Directories: map[string]move.Directory{"site": s.directory}, Secret: siteSecret, AtOnce: 4, Retention: 24 * time.Hour, Notice: notice,
	})
}

func (s *site) get(id string) *move.Move {
	s.t.Helper()
	m, err := (&move.Queue{DB: s.queue, Now: time.Now}).Get(s.t.Context(), "site", id)
	s.check(err)
	return m
}

// in waits until a move is in a phase.
func (s *site) in(id string, p move.Phase) {
	s.t.Helper()
	limit := time.Now().Add(40 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if s.get(id).Phase == p {
			tick.Stop()
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("the move isn't %s: %+v", p, s.get(id))
		}
	}
}

// A delay holds whatever mover has the move: one that is there after the first has ended waits
// for the same time, which its clock brings.
func TestAMoveWaitsForApps(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	var ahead atomic.Int64
	first := s.telling(0, &ahead)
	m := s.request("EU01")
	q := &move.Queue{DB: s.queue, Now: time.Now}
	asked := time.Now()
	s.check(q.Delay(t.Context(), move.DelayRequest{Move: m.ID, Notice: "n", ClientID: "diary", Name: "Diary", Seconds: 1800}, time.Hour))
	first.Wake()
	s.in(m.ID, move.Ready)
	s.check(first.Close())
	second := s.telling(0, &ahead)
	x := s.write() // what is written while the move waits is there afterwards
	s.in(m.ID, move.Ready)
	ahead.Store(int64(29 * time.Minute))
	second.Wake()
	s.check(second.Close())
	if got := s.get(m.ID); got.Phase != move.Ready || len(got.Delays) != 1 {
		t.Errorf("before the delay is over: %+v", got)
	}
	third := s.telling(0, &ahead)
	ahead.Store(int64(31 * time.Minute))
	third.Wake()
	ended := s.over(m.ID)
	if ended.Phase != move.Retained || ended.Committed.Sub(asked) < 30*time.Minute {
		t.Errorf("changed over after %s: %+v", ended.Committed.Sub(asked), ended)
	}
	x.end()
	s.one(x)
	s.check(q.Delay(t.Context(), move.DelayRequest{Move: m.ID, Notice: "late", ClientID: "late", Name: "Late", Seconds: 60}, time.Hour))
	events, err := q.Events(t.Context(), m.ID, 0)
	s.check(err)
	if note := events[len(events)-1].Note; note != "app Late (late) asks for a delay of 1m0s, which is ignored: it comes too late" {
		t.Errorf("after the change-over: %q", note)
	}
	s.check(third.Close())
}

// As long as an app may not have been tried a move that is ready waits, and no longer than it
// is given; an operator ends that, too.
func TestAMoveWaitsUntilAppsHaveHeard(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	var ahead atomic.Int64
	q := &move.Queue{DB: s.queue, Now: time.Now}
	mover := s.telling(time.Hour, &ahead)
	t.Cleanup(func() { s.check(mover.Close()) })
	tell := func(notices []move.Notice) {
		for _, n := range notices {
			s.check(s.queue.Write(t.Context(), func(tx *sql.Tx) error {
				if err := q.Told(t.Context(), tx, n.ID); err != nil {
					return err
				}
				return q.Heard(t.Context(), tx, n.ID)
			}))
		}
	}
	untold := func() []move.Notice {
		list, err := q.Untold(t.Context(), 10, nil)
		s.check(err)
		return list
	}
	kinds := func(list []move.Notice) (all []move.Kind) {
		for _, n := range list {
			all = append(all, n.Kind)
		}
		return all
	}
	// Heard: the move goes on at once.
	m := s.request("EU01")
	mover.Wake()
	s.in(m.ID, move.Ready)
	list := untold()
	if got := kinds(list); len(got) != 2 || got[0] != move.Scheduled || got[1] != move.Started {
		t.Fatalf("apps are to hear %v", got)
	}
	tell(list[:1])
	tell(list[1:])
	mover.Wake()
	if ended := s.over(m.ID); ended.Phase != move.Retained || ended.Committed.Sub(ended.Started) > 30*time.Minute {
		t.Errorf("ended as %+v", ended)
	}
	if got := kinds(untold()); len(got) != 1 || got[0] != move.Finished {
		t.Errorf("apps are to hear %v", got)
	}
	// An operator doesn't wait.
	m = s.request("US02")
	mover.Wake()
	s.in(m.ID, move.Ready)
	s.check(q.Hurry(t.Context(), s.get(m.ID), "eva"))
	mover.Wake()
	s.over(m.ID)
	// The time is over.
	m = s.request("EU01")
	mover.Wake()
	s.in(m.ID, move.Ready)
	ahead.Store(int64(61 * time.Minute))
	mover.Wake()
	if ended := s.over(m.ID); ended.Committed.Sub(ended.Started) < time.Hour {
		t.Errorf("it waited %s", ended.Committed.Sub(ended.Started))
	}
}

// An app asks for a delay when the mover has just looked: the beginning of the change-over
// finds it.
func TestAMoveWaitsForTheLastToAsk(t *testing.T) {
	s := newSiteOf(t, siteOptions{queue: engine.Store(t)})
	q := &move.Queue{DB: s.queue, Now: time.Now}
	var ahead atomic.Int64
	m := s.request("EU01")
	var asked atomic.Bool
	s.doors["EU01"].seen = func(r *http.Request) {
		// The last that a mover asks a region for before it begins.
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/changes") || s.get(m.ID).Phase != move.Ready || asked.Swap(true) {
			return
		}
		if err := q.Delay(context.Background(), move.DelayRequest{Move: m.ID, Notice: "n", ClientID: "diary", Name: "Diary", Seconds: 1800}, time.Hour); err != nil {
			t.Error(err)
		}
	}
	mover := s.telling(0, &ahead)
	mover.Wake()
	for tick := time.NewTicker(5 * time.Millisecond); !asked.Load(); <-tick.C {
		if s.get(m.ID).Phase.Over() {
			t.Fatal("nobody was asked")
		}
	}
	ahead.Store(int64(31 * time.Minute))
	mover.Wake()
	if ended := s.over(m.ID); len(ended.Delays) != 1 || ended.Committed.Before(ended.Delays[0].Until) {
		t.Errorf("changed over at %s, delayed by %+v", ended.Committed, ended.Delays)
	}
	s.check(mover.Close())
}

// Each notice is written once, whenever the mover dies: at every step of a move.
func TestNoticesOfAMoverThatDies(t *testing.T) {
	for _, step := range []string{"depart", "rows", "hold", "commit", "activate", "leave", "beat"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			died := make(chan struct{}, 100)
			first := s.mover(0, func(_ context.Context, _ *move.Move, name string) error {
				if name == step {
					died <- struct{}{}
					return errors.New("it died here")
				}
				return nil
			})
			m := s.request("EU01")
			first.Wake()
			if step != "beat" { // which comes every second, and the move may be over by then
				<-died
			}
			s.check(first.Close())
			second := s.mover(time.Minute, nil)
			second.Wake()
			s.over(m.ID)
			s.check(second.Close())
			list, err := (&move.Queue{DB: s.queue, Now: time.Now}).Untold(t.Context(), 10, nil)
			s.check(err)
			if len(list) != 3 || list[0].Kind != move.Scheduled || list[1].Kind != move.Started || list[2].Kind != move.Finished {
				t.Errorf("apps are to hear %+v", list)
			}
		})
	}
}
