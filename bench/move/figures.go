package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"mpr/bench/machine"
)

// figures are durations, sorted.
type figures []time.Duration

func sorted(all []time.Duration) figures { return slices.Sorted(slices.Values(all)) }

// at is the value that a share of all doesn't exceed (nearest rank); 0 of none.
func (f figures) at(share float64) time.Duration {
	if len(f) == 0 {
		return 0
	}
	return f[max(int(math.Ceil(share*float64(len(f))))-1, 0)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// row prints the figures as a line of a table, in milliseconds.
func (f figures) row(name string) {
	fmt.Printf("%-34s %8d %8s %8s %8s %8s\n", name, len(f), ms(f.at(0.5)), ms(f.at(0.95)), ms(f.at(0.99)), ms(f.at(1)))
}

func head(name string) {
	fmt.Printf("%-34s %8s %8s %8s %8s %8s\n", name, "number", "p50", "p95", "p99", "max")
}

// spread writes a median and the range that it is from.
func spread(format string, all []float64) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", machine.Median(all), slices.Min(all), slices.Max(all))
}

// describe prints the machine and what is measured.
func describe(o options) {
	fmt.Printf("%s; %s\n", time.Now().UTC().Format(time.DateOnly), machine.Describe())
	fmt.Printf("regions on %s and %s, %d gateway(s); load of the machine %s\n", o.engines[0], o.engines[1], o.gateways, machine.Load())
}
