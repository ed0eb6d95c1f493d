package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mpr/bench/machine"
)

// kind is a kind of request to a service, by the client that sends it.
type kind struct {
	of     *service
	name   string
	ask    func(ctx context.Context, client int) error
	rounds []figures
}

// figures are those of a round.
type figures struct{ rate, p50, p99, cpu float64 }

func rate(f figures) float64 { return f.rate }
func p50(f figures) float64  { return f.p50 }
func p99(f figures) float64  { return f.p99 }
func cpu(f figures) float64  { return f.cpu }

// figure is the median of a figure, and its range.
func (k *kind) figure(format string, of func(figures) float64) string {
	var all []float64
	for _, r := range k.rounds {
		all = append(all, of(r))
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", machine.Median(all), slices.Min(all), slices.Max(all))
}

// round has all clients ask for a while.
func (k *kind) round(ctx context.Context, clients int, length time.Duration) (f figures, err error) {
	before, err := k.of.process.CPU()
	if err != nil {
		return f, err
	}
	took := make([][]float64, clients) // in ms
	failed := make([]error, clients)
	began := time.Now()
	var asking sync.WaitGroup
	for client := range clients {
		asking.Go(func() {
			for time.Since(began) < length && failed[client] == nil {
				sent := time.Now()
				failed[client] = k.ask(ctx, client)
				took[client] = append(took[client], time.Since(sent).Seconds()*1000)
			}
		})
	}
	asking.Wait()
	lasted := time.Since(began)
	after, err := k.of.process.CPU()
	if err := errors.Join(append(failed, err)...); err != nil {
		return f, fmt.Errorf("%s, %s: %w", k.of.name, k.name, err)
	}
	all := slices.Concat(took...)
	n := float64(len(all))
	return figures{n / lasted.Seconds(), machine.At(all, 0.5), machine.At(all, 0.99), float64((after - before).Microseconds()) / n}, nil
}
