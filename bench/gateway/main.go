package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/gateway", run) }

// options are what a run is told.
type options struct {
	binary      string
	companies   int
	rounds      int
	length      time.Duration
	connections int
	series      []string
	only        []string
	profile     string
	json        bool
}

// allSeries are what can be measured.
var allSeries = []string{"plain", "tls", "latency"}

func run(ctx context.Context) error {
	var o options
	var series, only, serve string
	flag.StringVar(&o.binary, "mpr", "bin/mpr", "the binary to measure")
	flag.IntVar(&o.companies, "companies", 1_000_000, "placements in the directory, and entries in the peers' maps")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each proxy")
	flag.DurationVar(&o.length, "length", 4*time.Second, "how long a round takes")
	flag.IntVar(&o.connections, "connections", 64, "connections at the same time")
	flag.StringVar(&series, "series", "plain,tls,latency", "what to measure: plain (HTTP at full load), tls (the same over TLS), latency (what is added at half load)")
	flag.StringVar(&only, "only", "", "measure these proxies only, such as mpr,nginx")
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the gateway, which is then run by this program")
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.StringVar(&serve, "serve", "", "be a gateway on this configuration, and write its profile")
	flag.Parse()
	if serve != "" {
		return serveProfiled(ctx, serve, o.profile)
	}
	o.series = strings.Split(series, ",")
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	for _, s := range o.series {
		if !slices.Contains(allSeries, s) {
			return fmt.Errorf("there is no series %q: choose of %v", s, allSeries)
		}
	}
	if o.companies < called || o.rounds < 1 || o.connections < 1 || o.length < time.Second {
		return fmt.Errorf("--companies must be at least %d, --rounds and --connections positive, and --length at least 1s", called)
	}
	r := newReport(o) // before the number of cores becomes one
	if err := machine.Pin(ctx, loadCore); err != nil {
		return err
	}
	if err := measure(ctx, o, r); err != nil {
		return err
	}
	return r.print(os.Stdout)
}

// measure does all that is asked for.
func measure(ctx context.Context, o options, r *report) (err error) {
	j, err := newJob(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	proxies, err := j.proxies(ctx)
	if err != nil {
		return err
	}
	for _, p := range proxies {
		r.progress("check the answers of " + p.name)
		if err := j.check(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for _, name := range o.series {
		switch name {
		case "plain", "tls":
			err = j.fullLoad(ctx, proxies, name == "tls", r)
		case "latency":
			err = j.halfLoad(ctx, proxies, r)
		}
		if err != nil {
			return fmt.Errorf("series %s: %w", name, err)
		}
	}
	return nil
}
