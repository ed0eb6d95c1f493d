package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/console", run) }

// options are what a run is told.
type options struct {
	binary, dir            string
	companies, apps, lines int
	rounds                 int
}

// promised is how fast each page is to be.
const promised = 200 * time.Millisecond

func run(ctx context.Context) (err error) {
	var o options
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.StringVar(&o.dir, "dir", "", "folder for the stores (default: a new one among temporary files)")
	flag.IntVar(&o.companies, "companies", 1_000_000, "companies")
	flag.IntVar(&o.apps, "apps", 10_000, "apps, each of which makes non-compliant calls")
	flag.IntVar(&o.lines, "lines", 3, "lines of the ledger for each app and day")
	flag.IntVar(&o.rounds, "rounds", 40, "how often each page is asked for")
	flag.Parse()
	if o.companies < 1000 || o.apps < 10 || o.lines < 1 || o.rounds < 1 {
		return errors.New("there must be 1000 companies, 10 apps, a line and a round at the least")
	}
	fmt.Println(machine.Describe())
	s, err := newSystem(ctx, o)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	return s.measure(ctx)
}
