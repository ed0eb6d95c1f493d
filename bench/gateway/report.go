package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"mpr/bench/machine"
)

// sample is what one round at full load has measured.
type sample struct {
	CPU    float64 `json:"cpu_us"`
	Rate   float64 `json:"calls_per_second"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Memory float64 `json:"rss_mb"`
}

// latency is what one round at half load has measured.
type latency struct {
	Rate    float64 `json:"calls_per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Added50 float64 `json:"added_p50_ms"`
	Added99 float64 `json:"added_p99_ms"`
}

// rounds are those of one proxy in one series.
type rounds struct {
	Series  string    `json:"series"`
	Proxy   string    `json:"proxy"`
	Samples []sample  `json:"rounds,omitempty"`
	Median  *sample   `json:"median,omitempty"`
	Latency []latency `json:"latency_rounds,omitempty"`
	Typical *latency  `json:"latency_median,omitempty"`
	// Ratio is our CPU time for each call over this proxy's: the median of the ratios of the rounds.
	Ratio float64 `json:"our_cpu_ratio,omitempty"`
}

// report collects what was measured.
type report struct {
	Day         string    `json:"day"`
	Machine     string    `json:"machine"`
	LoadFirst   string    `json:"load_at_begin"`
	LoadLast    string    `json:"load_at_end"`
	Companies   int       `json:"companies"`
	Connections int       `json:"connections"`
	Rounds      []*rounds `json:"series"`
	asJSON      bool
}

func newReport(o options) *report {
	return &report{
		Day: time.Now().UTC().Format(time.DateOnly), Machine: machine.Describe(), LoadFirst: machine.Load(),
		Companies: o.companies, Connections: o.connections, asJSON: o.json,
	}
}

// progress tells whoever waits what is measured now.
func (r *report) progress(what string) {
	fmt.Fprintf(os.Stderr, "%s %s (load %s)\n", time.Now().UTC().Format(time.TimeOnly), what, machine.Load())
}

func (r *report) of(series, proxy string) *rounds {
	for _, one := range r.Rounds {
		if one.Series == series && one.Proxy == proxy {
			return one
		}
	}
	one := &rounds{Series: series, Proxy: proxy}
	r.Rounds = append(r.Rounds, one)
	return one
}

func (r *report) add(series, proxy string, s sample) {
	one := r.of(series, proxy)
	one.Samples = append(one.Samples, s)
	fmt.Fprintf(os.Stderr, "    %-32s %6.1f us a call, %6.0f calls/s, p50 %.2f ms, p99 %.2f ms\n", proxy, s.CPU, s.Rate, s.P50, s.P99)
}

func (r *report) addLatency(proxy string, l latency) {
	one := r.of("latency", proxy)
	one.Latency = append(one.Latency, l)
	fmt.Fprintf(os.Stderr, "    %-32s adds %.3f ms at p50, %.3f ms at p99\n", proxy, l.Added50, l.Added99)
}

// conclude takes the medians, and the ratios to us.
func (r *report) conclude() {
	for _, one := range r.Rounds {
		if len(one.Samples) > 0 {
			at := func(f func(sample) float64) float64 { return median(one.Samples, f) }
			one.Median = &sample{
				at(func(s sample) float64 { return s.CPU }), at(func(s sample) float64 { return s.Rate }),
				at(func(s sample) float64 { return s.P50 }), at(func(s sample) float64 { return s.P99 }), at(func(s sample) float64 { return s.Memory }),
			}
		}
		if len(one.Latency) > 0 {
			at := func(f func(latency) float64) float64 { return median(one.Latency, f) }
			one.Typical = &latency{
				at(func(l latency) float64 { return l.Rate }), at(func(l latency) float64 { return l.P50 }), at(func(l latency) float64 { return l.P99 }),
				at(func(l latency) float64 { return l.Added50 }), at(func(l latency) float64 { return l.Added99 }),
			}
		}
	}
	for _, one := range r.Rounds {
		ours := r.find(one.Series, "mpr")
		if ours == nil || one == ours || len(ours.Samples) != len(one.Samples) || len(one.Samples) == 0 {
			continue
		}
		var ratios []float64
		for i := range one.Samples {
			ratios = append(ratios, ours.Samples[i].CPU/one.Samples[i].CPU)
		}
		one.Ratio = machine.Median(ratios)
	}
}

func (r *report) find(series, proxy string) *rounds {
	i := slices.IndexFunc(r.Rounds, func(one *rounds) bool { return one.Series == series && one.Proxy == proxy })
	if i < 0 {
		return nil
	}
	return r.Rounds[i]
}

func median[T any](all []T, f func(T) float64) float64 {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = f(all[i])
	}
	return machine.Median(values)
}

func (r *report) print(to io.Writer) error {
	r.LoadLast = machine.Load()
	r.conclude()
	if r.asJSON {
		out := json.NewEncoder(to)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	fmt.Fprintf(to, "%s; %s; load %s at the beginning, %s at the end\n%d companies, %d of them called; %d tokens; %d connections; medians of rounds, ranges in parentheses\n\n",
		r.Day, r.Machine, r.LoadFirst, r.LoadLast, r.Companies, called, tokens, r.Connections)
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "series\tproxy\tCPU us a call\tours over it\tcalls/s\tp50 ms\tp99 ms\tRSS MB\t")
	for _, one := range r.Rounds {
		if m := one.Median; m != nil {
			ratio := "-"
			if one.Ratio > 0 {
				ratio = fmt.Sprintf("%.2f", one.Ratio)
			}
			cpu := func(s sample) float64 { return s.CPU }
			fmt.Fprintf(t, "%s\t%s\t%.1f (%.1f to %.1f)\t%s\t%.0f\t%.2f\t%.2f\t%.0f\t\n", one.Series, one.Proxy, m.CPU, least(one.Samples, cpu), most(one.Samples, cpu), ratio, m.Rate, m.P50, m.P99, m.Memory)
		}
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\nseries\tproxy\tat calls/s\tp50 ms\tp99 ms\tadded p50\tadded p99\t\t")
	for _, one := range r.Rounds {
		if l := one.Typical; l != nil {
			added := func(l latency) float64 { return l.Added99 }
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.3f\t%.3f\t%.3f\t%.3f (%.3f to %.3f)\t\t\n", one.Series, one.Proxy, l.Rate, l.P50, l.P99, l.Added50, l.Added99, least(one.Latency, added), most(one.Latency, added))
		}
	}
	return t.Flush()
}

func least[T any](all []T, f func(T) float64) float64 {
	low := f(all[0])
	for _, one := range all {
		low = min(low, f(one))
	}
	return low
}

func most[T any](all []T, f func(T) float64) float64 {
	return -least(all, func(one T) float64 { return -f(one) })
}
