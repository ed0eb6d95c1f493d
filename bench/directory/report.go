package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"mpr/bench/machine"
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
	return &report{
		Day: time.Now().UTC().Format(time.DateOnly), Machine: machine.Describe(), LoadFirst: machine.Load(),
		Companies: o.companies, Replicas: o.replicas, asJSON: o.json,
	}
}

// progress tells whoever waits what is measured now.
func (r *report) progress(what string) {
	fmt.Fprintf(os.Stderr, "%s %s (load %s)\n", time.Now().UTC().Format(time.TimeOnly), what, machine.Load())
}

// add adds measurements of one thing.
func (r *report) add(name, unit string, values ...float64) {
	if len(values) == 0 {
		return
	}
	f := figure{name, unit, len(values), machine.At(values, 0.5), machine.At(values, 0.99), slices.Min(values), slices.Max(values)}
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
	r.LoadLast = machine.Load()
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
