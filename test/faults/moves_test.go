package faults

import (
	"slices"
	"testing"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/move"
)

// fault is something that goes wrong, and what may fail meanwhile.
type fault struct {
	name   string
	strike func(*system)
	// heal makes it good again. It comes as soon as all movers have gone on; where the fault
	// lasts, when all moves have ended; where it stops what goes to a region, when something of
	// each move has been stopped.
	heal  func(*system)
	lasts bool
	stops company.Region
	// excused are gateways by which calls may fail.
	excused []int
}

var everybody = []int{0, 1}

// faults are all that a system must survive while companies move.
func faults() []fault {
	kill := func(name string, excused ...int) fault {
		return fault{name: "SIGKILL of " + name, strike: func(s *system) { s.processes[name].kill() }, heal: func(s *system) { s.start(name) }, excused: excused}
	}
	weather := func(name string, code company.Region, w weather) fault {
		return fault{name: name, strike: func(s *system) { s.ways[code].turn(w) }, heal: func(s *system) { s.ways[code].turn(fine) }, stops: code}
	}
	jump := func(name string, by time.Duration) fault {
		return fault{name: "the clock of " + name + " jumps by " + by.String(), strike: func(s *system) { s.jump(name, by) }, heal: func(s *system) { s.jump(name, 0) }, lasts: true}
	}
	return []fault{
		kill("control"), kill("directory"), kill(string(here), everybody...), kill(string(there), everybody...), kill("gateway 1", 0),
		weather("requests to the source are lost", here, requestsLost), weather("answers of the source are lost", here, answersLost),
		weather("requests to the destination are lost", there, requestsLost), weather("answers of the destination are lost", there, answersLost),
		{name: "all messages come again and late", strike: func(s *system) { s.ways[here].turn(repeating); s.ways[there].turn(repeating) },
			heal: func(s *system) { s.ways[here].turn(fine); s.ways[there].turn(fine) }, lasts: true},
		{name: "a gateway is cut off from the directory", strike: func(s *system) { s.wire.cut(true) }, heal: func(s *system) { s.wire.cut(false) }, lasts: true},
		jump("control", time.Hour), jump("control", -time.Hour), jump(string(here), -time.Hour), jump(string(there), time.Hour), jump("gateway 1", 30*time.Minute),
	}
}

// At each of the steps of a move there is a company when the fault strikes, and all of them
// are written to and read from.
func TestEveryFaultAtEveryStep(t *testing.T) {
	s := newSystem(t)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			defer func(whole *testing.T) { s.t = whole }(s.t)
			s.t = t
			s.atEveryStep(f)
		})
	}
}

// callers are the companies whose movers have yet to call a region from where they stand on: once
// it owns the company, the destination is called no more.
func callers(code company.Region, at map[company.ID]string) []company.ID {
	var list []company.ID
	for id, step := range at {
		if code == here || step != "release" && step != "leave" {
			list = append(list, id)
		}
	}
	return list
}

func (s *system) atEveryStep(f fault) {
	s.t.Cleanup(s.steps.release)
	ids := s.found(len(move.Steps), here)
	traffics := s.traffics(ids)
	// A change-over that waits for long is undone. So those companies first wait where theirs
	// begins, until all are there.
	before, at := map[company.ID]string{}, map[company.ID]string{}
	begins, changes := slices.Index(move.Steps, "hold"), slices.Index(move.Steps, "changes")
	for i, id := range ids {
		at[id] = move.Steps[i]
		before[id] = move.Steps[min(i, begins)]
		if i == changes { // which there must be, of what is written while rows are brought
			before[id] = "rows"
		}
		s.steps.halt(id, before[id])
		if i >= slices.Index(move.Steps, "new epoch") { // one that is undone
			s.steps.fail(id, "last changes")
		}
	}
	for _, id := range ids {
		_, err := s.admin.StartMove(s.t.Context(), control.NewMove{Request: move.Request{Company: id, To: there, By: "the test"}})
		s.check(err)
	}
	s.steps.await(s.t, before)
	traffics[changes].writes()
	for id, step := range at {
		s.steps.halt(id, step)
	}
	s.steps.await(s.t, at)
	f.strike(s)
	s.steps.release()
	if f.stops != "" {
		s.ways[f.stops].stopped(s, callers(f.stops, at))
	}
	if !f.lasts {
		f.heal(s)
	}
	moves := s.settled(ids)
	if f.lasts {
		f.heal(s)
	}
	for _, x := range traffics {
		x.anew()
	}
	for i, id := range ids {
		m := moves[id]
		traffics[i].flows()
		traffics[i].hold(f.excused...)
		if m.Attempts > 0 || m.Phase == move.Aborted {
			s.t.Logf("at %q: %d change-overs were undone, the move is %s %s", move.Steps[i], m.Attempts, m.Phase, m.Problem)
		}
	}
}
