package faults

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/move"
)

var (
	soakMoves = flag.Int("soak.moves", soakLeast, "how many moves TestSoak makes at the least")
	soakSeed  = flag.Uint64("soak.seed", 0, "what decides the faults and their times; one is drawn where it is 0")
)

const (
	// soakLeast is a few rounds' worth, for a run among the other tests.
	soakLeast = 2 * soakCompanies * soakLegs
	// soakCompanies move at the same time, and each of them so often: there, back, and there.
	soakCompanies, soakLegs = 4, 3
	// Up to soakFaults strike in a leg, each of them soakApart after the last one at the latest,
	// and for soakLong at the longest.
	soakFaults = 3
	soakApart  = 400 * time.Millisecond
	soakLong   = 2 * time.Second
)

// Companies move to and fro under load, while faults strike at random times. The seed decides
// which ones and when; the machine decides what they meet.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d", seed)
	lots := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it is to come again
	s := newSystem(t)
	began, undone, aborted := time.Now(), 0, 0
	for done := 0; done < *soakMoves && !t.Failed(); done += soakCompanies * soakLegs {
		ids := s.found(soakCompanies, here)
		traffics := s.traffics(ids)
		var excused []int
		for range soakLegs {
			excused = append(excused, s.leg(lots, ids)...)
			for _, m := range s.settled(ids) {
				undone += m.Attempts
				if m.Phase == move.Aborted {
					aborted++
				}
			}
		}
		for _, x := range traffics {
			x.anew()
			x.flows()
			x.hold(excused...)
		}
		t.Logf("%d moves after %s; %d change-overs were undone, %d moves were aborted", done+soakCompanies*soakLegs, time.Since(began).Round(time.Second), undone, aborted)
	}
	if t.Failed() {
		t.Logf("the same faults again: make soak SEED=%d", seed)
	}
}

// leg starts a move of each company to where it doesn't live, and has faults strike while they
// are under way. It answers the gateways by which calls may fail.
func (s *system) leg(lots *rand.Rand, ids []company.ID) (excused []int) {
	s.t.Helper()
	for _, id := range ids {
		to := there
		if s.owned(id) == there {
			to = here
		}
		if lots.IntN(3) == 0 {
			s.steps.fail(id, move.Steps[lots.IntN(len(move.Steps))])
		}
		s.eventually("start a move", func(ctx context.Context) error {
			_, err := s.admin.StartMove(ctx, control.NewMove{Request: move.Request{Company: id, To: to, By: "the test"}})
			return err
		})
	}
	all := faults()
	for range 1 + lots.IntN(soakFaults) {
		f := all[lots.IntN(len(all))]
		s.pass(time.Duration(lots.Int64N(int64(soakApart))))
		s.t.Logf("%s", f.name)
		f.strike(s)
		s.pass(time.Duration(lots.Int64N(int64(soakLong))))
		f.heal(s)
		excused = append(excused, f.excused...)
	}
	slices.Sort(excused)
	return slices.Compact(excused)
}

// pass has time pass: faults come at random times, not when something has happened.
func (s *system) pass(d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
		s.t.Fatal(s.t.Context().Err())
	}
}
