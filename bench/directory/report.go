package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is what was measured of one thing.
type figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Number int     `json:"number"` // of single measurements
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// report collects figures.
type report struct {
	Day       string   `json:"day"`
	Machine   string   `json:"machine"`
	LoadFirst string   `json:"load_at_begin"`
	LoadLast  string   `json:"load_at_end"`
	Companies int      `json:"companies"`
	Replicas  int      `json:"replicas"`
	Figures   []figure `json:"figures"`
	asJSON    bool
}

func newReport(o options) *report {
	kernel, err := exec.CommandContext(context.Background(), "uname", "-r").Output()
	if err != nil {
		kernel = []byte("unknown")
	}
	return &report{
		Day:     time.Now().UTC().Format(time.DateOnly),
		Machine: fmt.Sprintf("%d cores, Linux %s, %s", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version()), LoadFirst: load(),
		Companies: o.companies, Replicas: o.replicas, asJSON: o.json,
	}
}

// load is how loaded the machine is: the mean of a minute, of five and of fifteen.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

// progress tells whoever waits what is measured now.
func (r *report) progress(what string) {
	fmt.Fprintf(os.Stderr, "%s %s (load %s)\n", time.Now().UTC().Format(time.TimeOnly), what, load())
}

// add adds measurements of one thing.
func (r *report) add(name, unit string, values ...float64) {
	if len(values) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(share float64) float64 { // nearest rank
		return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
	}
	f := figure{name, unit, len(sorted), at(0.5), at(0.99), sorted[0], sorted[len(sorted)-1]}
	r.Figures = append(r.Figures, f)
	fmt.Fprintf(os.Stderr, "    %s: %s %s (%s to %s)\n", name, short(f.P50), unit, short(f.Min), short(f.Max))
}

func milliseconds(all []time.Duration) []float64 {
	values := make([]float64, len(all))
	for i, d := range all {
		values[i] = float64(d) / float64(time.Millisecond)
	}
	return values
}

// short writes a number with three digits that count, or with all that it has before the point.
func short(v float64) string {
	if v == 0 || math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))), v)
}

func (r *report) print(to io.Writer) error {
	r.LoadLast = load()
	if r.asJSON {
		out := json.NewEncoder(to)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	fmt.Fprintf(to, "%s; %s; load %s at the beginning, %s at the end; %d companies, changes to %d replicas\n\n", r.Day, r.Machine, r.LoadFirst, r.LoadLast, r.Companies, r.Replicas)
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "measured\tunit\tnumber\tp50\tp99\tmin\tmax\t")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", f.Name, f.Unit, f.Number, short(f.P50), short(f.P99), short(f.Min), short(f.Max))
	}
	return t.Flush()
}
