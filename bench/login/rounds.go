package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"mpr/bench/machine"
)

// kind is a kind of request, by the client that sends it.
type kind struct {
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

func (s *system) clientCredentials(ctx context.Context, _ int) error {
	_, err := s.token(ctx, url.Values{"grant_type": {"client_credentials"}, "client_id": {s.account.ClientID}, "client_secret": {s.account.ClientSecret}})
	return err
}

func (s *system) refresh(ctx context.Context, client int) error {
	t, err := s.token(ctx, url.Values{"grant_type": {"refresh_token"}, "client_id": {s.app.ClientID}, "client_secret": {s.app.ClientSecret}, "refresh_token": {s.chains[client]}})
	if err == nil {
		s.chains[client] = t.Refresh
	}
	return err
}

// round has all clients ask for a while.
func (s *system) round(ctx context.Context, k *kind, length time.Duration) (f figures, err error) {
	before, err := s.login.CPU()
	if err != nil {
		return f, err
	}
	took := make([][]float64, s.o.clients) // in ms
	failed := make([]error, s.o.clients)
	began := time.Now()
	var asking sync.WaitGroup
	for client := range s.o.clients {
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
	after, err := s.login.CPU()
	if err := errors.Join(append(failed, err)...); err != nil {
		return f, fmt.Errorf("%s: %w", k.name, err)
	}
	all := slices.Concat(took...)
	n := float64(len(all))
	return figures{n / lasted.Seconds(), machine.At(all, 0.5), machine.At(all, 0.99), float64((after - before).Microseconds()) / n}, nil
}
