package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/login", run) }

// options are what a run is told.
type options struct {
	binary, postgres, dir, hydra string
	clients, rounds              int
	length                       time.Duration
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.StringVar(&o.postgres, "postgres", os.Getenv("MPR_BENCH_POSTGRES"), "DSN of a PostgreSQL database for the stores (default: SQLite)")
	flag.StringVar(&o.dir, "dir", "", "folder for the data (default: a new one among temporary files)")
	flag.StringVar(&o.hydra, "hydra", "", "binary of ory/hydra, which is measured beside on the same PostgreSQL")
	flag.IntVar(&o.clients, "clients", 16, "clients at the same time")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each kind of request, which take turns")
	flag.DurationVar(&o.length, "length", 4*time.Second, "how long a round takes")
	flag.Parse()
	if o.clients < 1 || o.rounds < 1 || o.length < time.Second {
		return errors.New("--clients and --rounds must be positive, and --length at least 1s")
	}
	if o.hydra != "" && o.postgres == "" {
		return errors.New("--hydra needs --postgres: make bench-login-peers has both")
	}
	return measure(ctx, o)
}

// measure measures both kinds of requests at each service, in rounds that take turns.
func measure(ctx context.Context, o options) (err error) {
	engine := "SQLite"
	if o.postgres != "" {
		engine = "PostgreSQL"
	}
	fmt.Printf("%s; load %s; %s, %d clients\n\n", machine.Describe(), machine.Load(), engine, o.clients)
	var closes machine.Cleanup
	defer func() { err = errors.Join(err, closes.Close()) }()
	ours, err := startOurs(ctx, o, &closes)
	if err != nil {
		return err
	}
	kinds := ours.kinds()
	if o.hydra != "" {
		peer, err := startHydra(ctx, o, &closes)
		if err != nil {
			return fmt.Errorf("hydra: %w", err)
		}
		kinds = append(kinds, peer.kinds()...)
	}
	for _, k := range kinds { // what warms up doesn't count
		if _, err := k.round(ctx, o.clients, time.Second); err != nil {
			return err
		}
	}
	for range o.rounds {
		for _, k := range kinds {
			f, err := k.round(ctx, o.clients, o.length)
			if err != nil {
				return err
			}
			k.rounds = append(k.rounds, f)
		}
	}
	fmt.Println("| service | requests | a second | p50 ms | p99 ms | CPU µs a request |\n|---|---|---|---|---|---|")
	for _, k := range kinds {
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", k.of.name, k.name, k.figure("%.0f", rate), k.figure("%.2f", p50), k.figure("%.1f", p99), k.figure("%.0f", cpu))
	}
	fmt.Printf("\nSigning in, allowing the app and exchanging the code took mpr %.0f ms of CPU time for each of %d people. Load %s.\n", ours.signInCPU.Seconds()*1000/float64(o.clients), o.clients, machine.Load())
	return nil
}
