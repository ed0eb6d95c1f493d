package control

import (
	"context"
	"net/http"
	"time"

	"mpr/problem"
	"mpr/sandbox"
)

// Refresher refreshes a sandbox.
type Refresher interface {
	// Start begins a refresh; [problem.Conflict] where one is running.
	Start(context.Context) (sandbox.Run, error)
	// Show answers the state, and when the schedule refreshes next.
	Show(context.Context) (sandbox.State, time.Time, error)
	// Plan lists what a refresh would copy.
	Plan(context.Context) ([]sandbox.Wanted, error)
}

// The monthly sandbox as the admin API shows it.
type (
	// MonthlySandbox is its state.
	MonthlySandbox struct {
		sandbox.State
		// Next is when the schedule refreshes it.
		Next time.Time `json:"next"`
	}
	// SandboxRun is one refresh.
	SandboxRun = sandbox.Run
	// SandboxPlan is what a refresh would copy, besides all users and apps.
	SandboxPlan struct {
		Companies []sandbox.Wanted `json:"companies"`
	}
	// SandboxSetting says whether the monthly sandbox gets a copy of a company.
	SandboxSetting struct {
		Enabled bool `json:"monthly_sandbox"`
	}
)

func (e *Environment) monthly() (Refresher, error) {
	if e.Monthly == nil {
		return nil, problem.New(problem.NotFound, "%s has no monthly sandbox.", e.Name)
	}
	return e.Monthly, nil
}

func (s *Service) showMonthly(r *http.Request, e *Environment) (int, any, error) {
	monthly, err := e.monthly()
	if err != nil {
		return 0, nil, err
	}
	state, next, err := monthly.Show(r.Context())
	return http.StatusOK, MonthlySandbox{state, next}, err
}

func (s *Service) planMonthly(r *http.Request, e *Environment) (int, any, error) {
	monthly, err := e.monthly()
	if err != nil {
		return 0, nil, err
	}
	list, err := monthly.Plan(r.Context())
	return http.StatusOK, SandboxPlan{append([]sandbox.Wanted{}, list...)}, err
}

func (s *Service) refreshMonthly(r *http.Request, e *Environment) (int, any, error) {
	monthly, err := e.monthly()
	if err != nil {
		return 0, nil, err
	}
	run, err := monthly.Start(r.Context())
	return http.StatusAccepted, run, err
}

// setSandbox says whether the monthly sandbox gets a copy of a company. Its region keeps
// that with the company, so that it goes along when the company moves.
func (s *Service) setSandbox(r *http.Request, e *Environment) (int, any, error) {
	if _, err := e.monthly(); err != nil {
		return 0, nil, err
	}
	var in SandboxSetting
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	id, err := pathCompany(r)
	if err != nil {
		return 0, nil, err
	}
	if err := s.atCompany(r.Context(), e, id, http.MethodPut, "/monthly_sandbox", map[string]bool{"enabled": in.Enabled}, nil); err != nil {
		return 0, nil, err
	}
	noted(r).After = in
	return http.StatusOK, in, nil
}
