package machine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Main is the main function of a measurement: a signal ends the context of run, and an error is
// printed after the name of the program, which then ends with 1.
func Main(name string, run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Cleanup is what is to be undone at the end, in the order in which it was done.
type Cleanup []func() error

// Close undoes it, what was done last first, all of it whatever fails. A second time it does nothing.
func (c *Cleanup) Close() error {
	var failed []error
	for _, undo := range slices.Backward(*c) {
		failed = append(failed, undo())
	}
	*c = nil
	return errors.Join(failed...)
}

// Describe says what the machine is.
func Describe() string {
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
		kernel = []byte("of an unknown version")
	}
	memory := "unknown memory"
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kilobytes float64
		if _, err := fmt.Sscanf(string(data), "MemTotal: %f kB", &kilobytes); err == nil {
			memory = fmt.Sprintf("%.0f GiB of memory", kilobytes/(1<<20))
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, Linux %s, %s", runtime.NumCPU(), model, memory, strings.TrimSpace(string(kernel)), runtime.Version())
}

// Load is how loaded the machine is: the mean of a minute, of five and of fifteen.
func Load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

// FreeAddresses are n addresses that nobody listens at, below the ports that systems give to
// outgoing connections: a process that starts again must find its own.
func FreeAddresses(n int) (found []string, err error) {
	const lowest, highest = 10_000, 30_000
	for try := 0; len(found) < n; try++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.N(highest-lowest)))
		if err != nil {
			if try > 1000 {
				return nil, err
			}
			continue
		}
		defer l.Close() // all are held until all are found
		found = append(found, l.Addr().String())
	}
	return found, nil
}

// Eventually repeats f, which may be repeated, until it succeeds.
func Eventually(ctx context.Context, what string, limit, every time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}

// Median is the median of values, of which there must be one at the least.
func Median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// At is the value that a share of all doesn't exceed (nearest rank); 0 of none.
func At(all []float64, share float64) float64 {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	return s[max(int(math.Ceil(share*float64(len(s))))-1, 0)]
}
