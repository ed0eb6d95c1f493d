package observe

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mpr/problem"
)

// Check is something that is asked for readiness.
type Check struct {
	Name string
	// Environment is the one that it is for; empty: for all of the process.
	Environment string
	// Needed says whether the process, or the environment, isn't ready without it; nil: so it is. What isn't
	// needed is told all the same.
	Needed func() bool
	Ask    func(context.Context) error
}

// Check adds something that is asked for readiness, until remove is called.
func (p *Process) Check(c Check) (remove func()) {
	p.mu.Lock()
	p.checks = append(p.checks, &c)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.checks = slices.DeleteFunc(p.checks, func(other *Check) bool { return other == &c })
	}
}

// Serves notes that the process serves an environment.
func (p *Process) Serves(environment string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.serves, environment) {
		p.serves = append(p.serves, environment)
	}
}

// Readiness is what /readyz answers.
type Readiness struct {
	Role  string `json:"role"`
	Ready bool   `json:"ready"`
	// Reasons say why it isn't ready; none where it is.
	Reasons []string `json:"reasons"`
	// Environments are those that the process serves: it is ready while one of them is.
	Environments []EnvironmentReadiness `json:"environments,omitempty"`
	Checks       []Finding              `json:"checks"`
}

// EnvironmentReadiness says whether one environment can be served.
type EnvironmentReadiness struct {
	Environment string `json:"environment"`
	Ready       bool   `json:"ready"`
	// Reasons say why it can't; none where it can.
	Reasons []string `json:"reasons"`
}

// Finding is what a check has found.
type Finding struct {
	Name        string `json:"name"`
	Environment string `json:"environment,omitempty"`
	OK          bool   `json:"ok"`
	// Needed says whether the process, or the environment, is ready only where this is fine.
	Needed bool `json:"needed"`
	// Problem is what is wrong; empty where nothing is.
	Problem string `json:"problem,omitempty"`
}

// askWithin bounds how long checks may take.
const askWithin = 2 * time.Second

// Ready asks all checks. One environment that can't be served keeps calls from no other one.
func (p *Process) Ready(ctx context.Context) Readiness {
	p.mu.Lock()
	serves := slices.Clone(p.serves)
	p.mu.Unlock()
	found := p.ask(ctx, func(*Check) bool { return true })
	r := Readiness{Role: p.role, Reasons: append(p.leaving(), reasons(found, "")...), Checks: found}
	var away []string
	for _, name := range serves {
		e := EnvironmentReadiness{Environment: name, Reasons: reasons(found, name)}
		e.Ready = len(e.Reasons) == 0
		away = append(away, e.Reasons...)
		r.Environments = append(r.Environments, e)
	}
	if !slices.ContainsFunc(r.Environments, func(e EnvironmentReadiness) bool { return e.Ready }) {
		r.Reasons = append(r.Reasons, away...)
	}
	r.Ready = len(r.Reasons) == 0
	return r
}

// ask asks those checks that are wanted, side by side, for two seconds at the most.
func (p *Process) ask(ctx context.Context, wanted func(*Check) bool) []Finding {
	p.mu.Lock()
	var checks []*Check
	for _, c := range p.checks {
		if wanted(c) {
			checks = append(checks, c)
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	found := make([]Finding, len(checks))
	var asking sync.WaitGroup
	for i, c := range checks {
		asking.Go(func() {
			found[i] = Finding{Name: c.Name, Environment: c.Environment, OK: true, Needed: c.Needed == nil || c.Needed()}
			if err := c.Ask(ctx); err != nil {
				found[i].OK, found[i].Problem = false, told(err)
			}
		})
	}
	asking.Wait()
	return found
}

// reasons are those of the findings for an environment, or for all of the process, that keep it from being ready.
func reasons(found []Finding, environment string) []string {
	why := []string{}
	for _, f := range found {
		if f.Environment == environment && f.Needed && !f.OK {
			why = append(why, f.Name+": "+f.Problem)
		}
	}
	return why
}

// leaving is the reason of a process that is about to stop.
func (p *Process) leaving() []string {
	if p.draining.Load() {
		return []string{"the process is about to stop: calls in flight may end"}
	}
	return []string{}
}

// told is an error's text for an operator: that of a problem without its code.
func told(err error) string {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p.Message
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// ready answers /readyz; with ?env=NAME, as for one environment alone.
func (p *Process) ready(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	now := p.Ready(r.Context())
	if names := query["env"]; err != nil || len(names) > 0 {
		i := slices.IndexFunc(now.Environments, func(e EnvironmentReadiness) bool { return len(names) == 1 && e.Environment == names[0] })
		if i < 0 {
			problem.Write(w, r, problem.New(problem.NotFound, "This process serves no such environment. Without ?env it says which ones it serves."))
			return
		}
		own := now.Environments[i]
		now.Environments = []EnvironmentReadiness{own}
		now.Checks = slices.DeleteFunc(now.Checks, func(f Finding) bool { return f.Environment != "" && f.Environment != own.Environment })
		now.Reasons = slices.Concat(p.leaving(), reasons(now.Checks, ""), own.Reasons)
		now.Ready = len(now.Reasons) == 0
	}
	answerReady(w, now)
}

// ReadyOf answers /readyz at a listener of one environment: nothing counts there but what that needs. The listener is
// opened when the environment is there, whatever else the process still waits for.
func (p *Process) ReadyOf(environment string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found := p.ask(r.Context(), func(c *Check) bool { return c.Environment == environment })
		now := Readiness{Role: p.role, Reasons: append(p.leaving(), reasons(found, environment)...), Checks: found}
		now.Ready = len(now.Reasons) == 0
		answerReady(w, now)
	})
}

func answerReady(w http.ResponseWriter, now Readiness) {
	status := http.StatusOK
	if !now.Ready {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, now)
}

var (
	processReady     = prometheus.NewDesc("mpr_ready", "1 where the process is ready, as /readyz says.", nil, nil)
	environmentReady = prometheus.NewDesc("mpr_environment_ready", "1 where an environment that the process serves can be served, as /readyz says.", []string{"environment"}, nil)
)

type readyCollector struct{ process *Process }

func (c readyCollector) Describe(to chan<- *prometheus.Desc) {
	to <- processReady
	to <- environmentReady
}

func (c readyCollector) Collect(to chan<- prometheus.Metric) {
	now := c.process.Ready(context.Background())
	to <- prometheus.MustNewConstMetric(processReady, prometheus.GaugeValue, one(now.Ready))
	for _, e := range now.Environments {
		to <- prometheus.MustNewConstMetric(environmentReady, prometheus.GaugeValue, one(e.Ready), e.Environment)
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
