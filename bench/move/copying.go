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

// copying moves companies of many rows to a region that has none of them, one way and the other
// in turn, and prints how many rows a second were copied.
func copying(ctx context.Context, o options) (err error) {
	fmt.Printf("\nCopy rate: companies of %d rows; %s\n", o.rows, "load of the machine "+machine.Load())
	s, err := newSystem(ctx, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	ways := []struct{ from, to company.Region }{{here, there}, {there, here}}
	if o.engines[0] == o.engines[1] {
		ways = ways[:1] // the other way is the same
	}
	fmt.Printf("%-22s %10s %10s %10s %12s %10s %10s\n", "", "rows/s", "copying", "comparing", "CPU us/row:", "", "")
	fmt.Printf("%-22s %10s %10s %10s %12s %10s %10s\n", "round", "", "s", "s", "source", "mover", "dest.")
	for _, way := range ways {
		name := fmt.Sprintf("%s to %s", s.engine(way.from), s.engine(way.to))
		var rates []float64
		for n := range o.rounds + 1 { // the first round opens connections and files
			id, err := s.found(ctx, way.from, o.rows)
			if err != nil {
				return err
			}
			before, err := s.used(way.from, way.to)
			if err != nil {
				return err
			}
			m, err := s.moved(ctx, id, way.to, 0)
			if err != nil {
				return err
			}
			after, err := s.used(way.from, way.to)
			if err != nil {
				return err
			}
			rate := float64(m.Copied) / took(m, move.Copying, move.Following)
			if n == 0 {
				continue
			}
			rates = append(rates, rate)
			fmt.Printf("%-22s %10.0f %10.2f %10.2f", name, rate, took(m, move.Copying, move.Following), took(m, move.Following, move.Ready))
			for i := range before {
				fmt.Printf(" %10.1f", float64((after[i]-before[i]).Microseconds())/float64(m.Copied))
			}
			fmt.Println()
		}
		fmt.Printf("%-22s %s rows/s\n", name, spread("%.0f", rates))
	}
	return nil
}

func (s *system) engine(code company.Region) string {
	if code == here {
		return s.o.engines[0]
	}
	return s.o.engines[1]
}

// took is the time between the beginnings of two phases of a move, in seconds.
func took(m control.ProvenMove, from, to move.Phase) float64 {
	return entered(m, to).Sub(entered(m, from)).Seconds()
}

// used is the CPU time of the source, the mover and the destination. That of a database's own
// server isn't among it.
func (s *system) used(from, to company.Region) (all [3]time.Duration, err error) {
	for i, name := range []string{string(from), "control", string(to)} {
		if all[i], err = s.processes[name].CPU(); err != nil {
			return all, err
		}
	}
	return all, nil
}
