package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/directory", run) }

// options are what a run is told.
type options struct {
	binary    string
	dir       string
	companies int
	rounds    int
	replicas  int
	changes   int
	json      bool
}

func run(ctx context.Context) error {
	var o options
	var follow follower
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.StringVar(&o.dir, "dir", "", "folder for all data, which stays; what was loaded there before is not loaded again (default: a new one among temporary files, which goes)")
	flag.IntVar(&o.companies, "companies", 1_000_000, "placements in the directory")
	flag.IntVar(&o.rounds, "rounds", 5, "starts of a gateway in each state")
	flag.IntVar(&o.replicas, "replicas", 8, "processes with a replica each that hear of changes")
	flag.IntVar(&o.changes, "changes", 1000, "changes that they hear of")
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.StringVar(&follow.address, "follow", "", "be a process with a replica of the directory at this address")
	flag.StringVar(&follow.secret, "secret", "", "as such a process: file with what the directory is shown")
	flag.StringVar(&follow.file, "copy", "", "as such a process: file of the replica")
	flag.Parse()
	if follow.address != "" {
		return follow.run(ctx)
	}
	if o.companies < 1000 || o.rounds < 1 || o.replicas < 1 || o.changes < 1 {
		return errors.New("counts must be positive, and companies at least 1000")
	}
	r := newReport(o)
	if err := measure(ctx, o, r); err != nil {
		return err
	}
	return r.print(os.Stdout)
}

// measure does all measurements, one after another.
func measure(ctx context.Context, o options, r *report) (err error) {
	s, err := newSystem(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, m := range []struct {
		what string
		do   func(context.Context, *report) error
	}{
		{"load", s.load}, {"memory of a replica", s.memory}, {"changes", s.changes}, {"starts of a gateway", s.starts},
	} {
		r.progress(m.what)
		if err := m.do(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
	}
	return nil
}
