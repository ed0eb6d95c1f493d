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
	binary, postgres, dir string
	clients, rounds       int
	length                time.Duration
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.StringVar(&o.postgres, "postgres", os.Getenv("MPR_BENCH_POSTGRES"), "DSN of a PostgreSQL database for the stores (default: SQLite)")
	flag.StringVar(&o.dir, "dir", "", "folder for the data (default: a new one among temporary files)")
	flag.IntVar(&o.clients, "clients", 16, "clients at the same time")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each kind of request, which take turns")
	flag.DurationVar(&o.length, "length", 4*time.Second, "how long a round takes")
	flag.Parse()
	if o.clients < 1 || o.rounds < 1 || o.length < time.Second {
		return errors.New("--clients and --rounds must be positive, and --length at least 1s")
	}
	return measure(ctx, o)
}

// measure measures both kinds of requests in rounds that take turns.
func measure(ctx context.Context, o options) (err error) {
	engine := "SQLite"
	if o.postgres != "" {
		engine = "PostgreSQL"
	}
	fmt.Printf("%s; load %s; %s, %d clients\n\n", machine.Describe(), machine.Load(), engine, o.clients)
	s, err := newSystem(ctx, o)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	kinds := []*kind{{name: "client credentials", ask: s.clientCredentials}, {name: "refresh", ask: s.refresh}}
	for _, k := range kinds { // what warms up doesn't count
		if _, err := s.round(ctx, k, time.Second); err != nil {
			return err
		}
	}
	for range o.rounds {
		for _, k := range kinds {
			f, err := s.round(ctx, k, o.length)
			if err != nil {
				return err
			}
			k.rounds = append(k.rounds, f)
		}
	}
	fmt.Println("| requests | a second | p50 ms | p99 ms | CPU µs a request |\n|---|---|---|---|---|")
	for _, k := range kinds {
		fmt.Printf("| %s | %s | %s | %s | %s |\n", k.name, k.figure("%.0f", rate), k.figure("%.2f", p50), k.figure("%.1f", p99), k.figure("%.0f", cpu))
	}
	fmt.Printf("\nSigning in, allowing the app and exchanging the code took %.0f ms of CPU time for each of %d people. Load %s.\n", s.signInCPU.Seconds()*1000/float64(o.clients), o.clients, machine.Load())
	return nil
}
