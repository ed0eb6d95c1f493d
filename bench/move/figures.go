package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
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

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// spread writes a median and the range that it is from.
func spread(format string, all []float64) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median(all), slices.Min(all), slices.Max(all))
}

// describe prints the machine and what is measured.
func describe(o options) {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := exec.CommandContext(context.Background(), "uname", "-r").Output()
	if err != nil {
		kernel = []byte("unknown kernel")
	}
	memory := "unknown memory"
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kilobytes float64
		if _, err := fmt.Sscanf(string(data), "MemTotal: %f kB", &kilobytes); err == nil {
			memory = fmt.Sprintf("%.0f GiB of memory", kilobytes/(1<<20))
		}
	}
	fmt.Printf("%s; %d cores of %s, %s, Linux %s, %s\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), model, memory, strings.TrimSpace(string(kernel)), runtime.Version())
	fmt.Printf("regions on %s and %s, %d gateway(s); %s\n", o.engines[0], o.engines[1], o.gateways, foreign())
}

// foreign says how loaded the machine is.
func foreign() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "the load of the machine isn't known"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return "load of the machine " + first
}
