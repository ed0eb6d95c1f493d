package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/control"
	"mpr/move"
)

// steadyRate is how many calls a second each kind of calls makes while its latency is measured.
const steadyRate = 50

// work is a kind of calls to the source region.
type work struct {
	name string
	call func(context.Context, int, string) error
}

// state is what the mover does meanwhile.
type state struct {
	name  string
	moves bool
	rate  int
}

// measured is what a round measured of a kind of calls.
type measured struct {
	p50, p95 float64 // ms
	calls    float64 // a second
}

// slowdown measures calls to the source region, of the company that is copied and of another
// one, with and without a copy under way. The states take turns.
func slowdown(ctx context.Context, o options) (err error) {
	fmt.Printf("\nSlowdown of the source: companies of %d rows, %d rounds; %s\n", o.rows, o.rounds, "load of the machine "+machine.Load())
	s, err := newSystem(ctx, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var ids [2]company.ID
	for i, rows := range []int{o.rows, writtenTo * rowsOfProject} {
		if ids[i], err = s.found(ctx, here, rows); err != nil {
			return err
		}
	}
	c := s.client()
	if err := errors.Join(c.ready(ctx, ids[0]), c.ready(ctx, ids[1])); err != nil {
		return err
	}
	works := []work{
		{"reads of others", c.reads(ids[1], writtenTo*rowsOfProject)},
		{"writes of others", c.writes(ids[1])},
		{"reads of the company", c.reads(ids[0], o.rows)},
		{"writes of the company", c.writes(ids[0])},
	}
	states := []state{{"no copy", false, 0}, {"copy", true, 0}, {fmt.Sprintf("copy at %d rows/s", o.limit), true, o.limit}}
	all := make([][][]measured, len(states)) // by state, round, kind of calls
	for n := range o.rounds + 1 {
		for i := range states {
			at := (i + n) % len(states) // none is always the first
			round, err := s.disturbed(ctx, ids[0], states[at], func() ([]measured, error) { return measure(ctx, works, o.length) })
			if err != nil {
				return fmt.Errorf("%s: %w", states[at].name, err)
			}
			if n > 0 { // the first one opens connections
				all[at] = append(all[at], round)
			}
		}
	}
	compare(works, states, all)
	return nil
}

// disturbed has f measure while a company is copied, and gives the move up afterwards.
func (s *system) disturbed(ctx context.Context, id company.ID, st state, f func() ([]measured, error)) ([]measured, error) {
	if !st.moves {
		return f()
	}
	if err := s.ask(ctx, id, there, st.rate); err != nil {
		return nil, err
	}
	err := machine.Eventually(ctx, "begin to copy", within, again, func(ctx context.Context) error {
		m, err := s.admin.Move(ctx, id.String())
		if err == nil && m.Copied == 0 {
			err = fmt.Errorf("the move is %s", m.Phase)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	found, err := f()
	if err != nil {
		return nil, err
	}
	m, err := s.admin.Move(ctx, id.String())
	if err != nil {
		return nil, err
	}
	if m.Phase != move.Copying {
		return nil, fmt.Errorf("the copying was over before the round was (the move is %s): take more --rows", m.Phase)
	}
	return found, s.giveUp(ctx, id)
}

// giveUp aborts a move and waits until nothing is left of it.
func (s *system) giveUp(ctx context.Context, id company.ID) error {
	if _, err := s.admin.SteerMove(ctx, id.String(), "abort", control.Steering{By: "bench"}); err != nil {
		return err
	}
	return machine.Eventually(ctx, "give the move up", 10*within, again, func(ctx context.Context) error {
		var m control.Move
		m, err := s.admin.Move(ctx, id.String())
		if err == nil && m.Phase != move.Aborted {
			err = fmt.Errorf("it is %s: %s", m.Phase, m.Problem)
		}
		return err
	})
}

// measure makes all kinds of calls side by side: first at a steady rate, for their latency, then
// one after the other as fast as they are answered, for their number.
func measure(ctx context.Context, works []work, length time.Duration) ([]measured, error) {
	found := make([]measured, len(works))
	loads := make([]*load, len(works))
	for i, w := range works {
		loads[i] = every(steadyRate, fmt.Sprintf("%s %d", w.name, time.Now().UnixNano()), w.call)
	}
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(length / 2):
	}
	for i, l := range loads {
		calls, failed := l.end()
		err = errors.Join(err, failed)
		var latencies []time.Duration
		for _, c := range calls {
			latencies = append(latencies, c.latency())
		}
		f := sorted(latencies)
		found[i].p50, found[i].p95 = f.at(0.5).Seconds()*1000, f.at(0.95).Seconds()*1000
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, length/2)
	defer cancel()
	failed := make([]error, len(works))
	var callers sync.WaitGroup
	for i, w := range works {
		callers.Go(func() {
			began, n := time.Now(), 0
			for ; ctx.Err() == nil && failed[i] == nil; n++ {
				failed[i] = w.call(context.WithoutCancel(ctx), n, "as fast as can be")
			}
			found[i].calls = float64(n) / time.Since(began).Seconds()
		})
	}
	callers.Wait()
	return found, errors.Join(failed...)
}

// compare prints what was measured in each state, and its ratio to that without a copy in the
// same round: what else the machine does hits both.
func compare(works []work, states []state, all [][][]measured) {
	fmt.Printf("%-24s %-20s %10s %10s %10s   %s\n", "", "", "p50 ms", "p95 ms", "calls/s", "ratios to no copy: median (range over rounds) of p50, p95, calls/s")
	for k, w := range works {
		for i, st := range states {
			var columns, ratios [3][]float64
			for n, round := range all[i] {
				now, without := round[k], all[0][n][k]
				for j, pair := range [][2]float64{{now.p50, without.p50}, {now.p95, without.p95}, {now.calls, without.calls}} {
					columns[j] = append(columns[j], pair[0])
					ratios[j] = append(ratios[j], pair[0]/pair[1])
				}
			}
			fmt.Printf("%-24s %-20s %10.1f %10.1f %10.0f", w.name, st.name, machine.Median(columns[0]), machine.Median(columns[1]), machine.Median(columns[2]))
			if i > 0 {
				fmt.Printf("   %s, %s, %s", spread("%.2f", ratios[0]), spread("%.2f", ratios[1]), spread("%.2f", ratios[2]))
			}
			fmt.Println()
		}
	}
}
