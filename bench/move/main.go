package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/move", run) }

// options are what a run is told.
type options struct {
	binary   string
	engines  []string // of the source and the destination
	postgres string   // DSN of a server on which databases may be made
	dir      string

	moves    int
	writes   float64
	gateways int
	gap      time.Duration
	plot     string

	rows   int
	rounds int
	limit  int
	length time.Duration
}

func run(ctx context.Context) error {
	var o options
	what := flag.String("measure", "pause,copy,slowdown", "what to measure: pause, copy, slowdown, large; several with commas between them")
	engines := flag.String("engines", "", "of the two regions: sqlite,sqlite or postgres,postgres or one of each (default: sqlite, or postgres with --postgres)")
	large := flag.Int("large-rows", 10_000_000, "rows of the company that large moves")
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.StringVar(&o.postgres, "postgres", os.Getenv("MPR_BENCH_POSTGRES"), "DSN of a PostgreSQL server on which databases may be made")
	flag.StringVar(&o.dir, "dir", "", "folder for the databases (default: a new one among temporary files)")
	flag.IntVar(&o.moves, "moves", 60, "moves to and fro, of pause")
	flag.Float64Var(&o.writes, "writes", 200, "writes a second to the company that moves, of pause and large")
	flag.IntVar(&o.gateways, "gateways", 1, "gateways that the calls go through")
	flag.DurationVar(&o.gap, "gap", 1500*time.Millisecond, "quiet time between two moves, of pause")
	flag.StringVar(&o.plot, "plot", "", "file for a plot (SVG) of the latency around a change-over, of pause")
	flag.IntVar(&o.rows, "rows", 200_000, "rows of the companies that copy and slowdown copy; a tenth of it of the one of pause")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of copy and of slowdown")
	flag.IntVar(&o.limit, "rate", 2000, "rows a second of the limited copying, of slowdown")
	flag.DurationVar(&o.length, "length", 4*time.Second, "how long a round of slowdown takes")
	flag.Parse()
	if o.moves < 1 || o.writes <= 0 || o.gateways < 1 || o.rows < 1000 || o.rounds < 1 || o.limit < 1 || o.length < time.Second || *large < 1000 {
		return errors.New("counts and rates must be positive, rows at least 1000, and length at least 1s")
	}
	switch {
	case *engines != "":
		o.engines = strings.Split(*engines, ",")
	case o.postgres != "":
		o.engines = []string{postgres, postgres}
	default:
		o.engines = []string{sqlite, sqlite}
	}
	if len(o.engines) != 2 {
		return errors.New("--engines takes two of sqlite and postgres")
	}
	describe(o)
	for name := range strings.SplitSeq(*what, ",") {
		measure, ok := map[string]func(context.Context, options) error{
			"pause": pause, "copy": copying, "slowdown": slowdown,
			"large": func(ctx context.Context, o options) error { o.rows = *large; return big(ctx, o) },
		}[name]
		if !ok {
			return fmt.Errorf("there is nothing called %q to measure", name)
		}
		if err := measure(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
