package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"
	"time"

	"mpr/bench/machine"
)

func main() { machine.Main("bench/ledger", run) }

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 40, "rounds of each gateway")
	length := flag.Duration("length", time.Second, "how long a round takes")
	connections := flag.Int("connections", 64, "connections at the same time")
	directory := flag.String("directory", "", "be a gateway on the directory at this address")
	counts := flag.Bool("counts", false, "as a gateway: count calls")
	region := flag.String("region", "", "as a gateway: URL of the login and identity service")
	profile := flag.String("profile", "", "as a gateway: file for a CPU profile")
	flag.Parse()
	if *directory != "" {
		return serve(ctx, *directory, *region, *counts, *profile)
	}
	if *rounds < 1 || *connections < 1 || *length < 100*time.Millisecond {
		return fmt.Errorf("--rounds and --connections must be positive, and --length at least 100ms")
	}
	return compare(ctx, *rounds, *connections, *length)
}

// compare runs both gateways and prints what they cost.
func compare(ctx context.Context, rounds, connections int, length time.Duration) error {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	gateways := make([]*contender, 2) // without and with the ledger
	for i := range gateways {
		if gateways[i], err = w.start(ctx, i == 1); err != nil {
			return err
		}
		defer gateways[i].stop() // once more is no harm
	}
	// The first round of each opens connections and fills what is remembered.
	for _, g := range gateways {
		if _, err := w.round(ctx, g, connections, length/3); err != nil {
			return err
		}
	}
	costs := make([][]float64, 2)
	var ratios []float64
	fmt.Printf("%-6s %14s %14s %8s\n", "round", "without (us)", "with (us)", "ratio")
	for n := range rounds {
		var cost [2]float64
		for i := range gateways {
			at := (i + n) % 2 // neither is always the first
			if cost[at], err = w.round(ctx, gateways[at], connections, length); err != nil {
				return err
			}
		}
		for i := range cost {
			costs[i] = append(costs[i], cost[i])
		}
		ratios = append(ratios, cost[1]/cost[0])
		fmt.Printf("%-6d %14.2f %14.2f %8.4f\n", n+1, cost[0], cost[1], cost[1]/cost[0])
	}
	low, high := interval(ratios)
	fmt.Printf("%-6s %14.2f %14.2f %8.4f  (quartiles %.4f to %.4f)\n", "median", median(costs[0]), median(costs[1]), median(ratios), low, high)
	if err := w.await(ctx, gateways[1].calls); err != nil {
		return err
	}
	fmt.Printf("All %d calls of the second gateway were counted.\n", gateways[1].calls)
	gateways[1].stop()
	share, err := w.share(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("Of its CPU time the ledger's code takes %.2f %%.\n", share)
	return nil
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// interval is the first and the third quartile.
func interval(all []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(all))
	at := func(q float64) float64 { return sorted[int(math.Round(q*float64(len(sorted)-1)))] }
	return at(0.25), at(0.75)
}
