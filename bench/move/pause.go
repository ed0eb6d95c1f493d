package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/control"
	"mpr/move"
)

// margin is how long before and after a change-over calls count as its own: a gateway may hear
// of it a little earlier or later than the mover notes it.
const margin = 50 * time.Millisecond

// moved is a move, with the time of its change-over.
type moved struct {
	control.ProvenMove
	began, cut, over time.Time
}

// pause moves a company to and fro under load, and prints what its clients saw.
func pause(ctx context.Context, o options) (err error) {
	fmt.Printf("\nPause: %d moves to and fro of a company of %d rows, at %.0f writes/s; %s\n", o.moves, o.rows/10, o.writes, "load of the machine "+machine.Load())
	s, err := newSystem(ctx, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	id, err := s.found(ctx, here, o.rows/10)
	if err != nil {
		return err
	}
	c := s.client()
	if err := c.ready(ctx, id); err != nil {
		return err
	}
	l := every(o.writes, "write", c.writes(id))
	moves, err := s.toAndFro(ctx, id, o)
	calls, failed := l.end()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if err := c.hold(ctx, id, calls); err != nil {
		return err
	}
	fmt.Printf("%d calls, none failed; each write that was answered is there once. %s\n", len(calls), lateness(calls))
	quiet := tell(calls, moves)
	if o.plot == "" {
		return nil
	}
	return plot(o.plot, calls, moves, quiet, o)
}

func lateness(calls []*sent) string {
	n, most := late(calls)
	if n == 0 {
		return "All were sent on time."
	}
	return fmt.Sprintf("%d were sent more than %v late, at the most %v: their latency counts from when they were due.", n, onTime, most.Round(time.Millisecond))
}

// toAndFro moves a company, with quiet times between the moves.
func (s *system) toAndFro(ctx context.Context, id company.ID, o options) (all []moved, err error) {
	to := there
	rest := func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(o.gap):
			return nil
		}
	}
	for range o.moves {
		if err := rest(); err != nil {
			return all, err
		}
		began := time.Now()
		m, err := s.moved(ctx, id, to, 0)
		if err != nil {
			return all, err
		}
		all = append(all, moved{ProvenMove: m, began: began, cut: entered(m, move.Cutting), over: entered(m, move.Retained)})
		to = m.From
	}
	return all, rest()
}

// tell prints the latencies, and answers the median of quiet times.
func tell(calls []*sent, moves []moved) time.Duration {
	var quiet, copied, during []time.Duration
	for _, c := range calls {
		switch phase(c, moves) {
		case "quiet":
			quiet = append(quiet, c.latency())
		case "copying":
			copied = append(copied, c.latency())
		default:
			during = append(during, c.latency())
		}
	}
	usual := sorted(quiet).at(0.5)
	var added, control, unowned, windows []time.Duration
	held, gateways, undone := 0, 0, 0
	for _, m := range moves {
		length := m.over.Sub(m.cut) + 2*margin
		added = append(added, worst(calls, m.cut.Add(-margin), m.over.Add(margin))-usual)
		// As long a time, and nothing going on: what the machine does by itself.
		before := m.began.Add(-margin)
		control = append(control, worst(calls, before.Add(-length), before)-usual)
		windows, unowned = append(windows, m.over.Sub(m.cut)), append(unowned, m.Pause)
		held, gateways, undone = held+m.Held, gateways+m.Gateways, undone+m.Attempts
	}
	head("latency of calls, ms")
	sorted(quiet).row("quiet times")
	sorted(copied).row("company is copied and compared")
	sorted(during).row("change-over")
	head("of each move, ms")
	sorted(added).row("largest added latency")
	sorted(control).row("the same in quiet times")
	sorted(windows).row("change-over, as the mover saw it")
	sorted(unowned).row("pause_ns: nobody owned the company")
	fmt.Printf("%d of %d times a gateway held; %d change-overs were undone\n", held, gateways, undone)
	return usual
}

// phase says what was going on while a call was under way.
func phase(c *sent, moves []moved) string {
	for _, m := range moves {
		if c.overlaps(m.cut.Add(-margin), m.over.Add(margin)) {
			return "change-over"
		}
		if c.overlaps(m.began, m.cut) {
			return "copying"
		}
	}
	return "quiet"
}

// worst is the longest latency of the calls that were under way at some time between two.
func worst(calls []*sent, from, to time.Time) (most time.Duration) {
	for _, c := range calls {
		if c.overlaps(from, to) {
			most = max(most, c.latency())
		}
	}
	return most
}
