package conform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mpr/company"
)

// Options say what is tested, and with what.
type Options struct {
	// URL is the base of the region's internal address, and Secret what it wants to be shown.
	URL, Secret string
	// Company is one that the region owns and that nobody needs.
	Company company.ID
	// Region is the code under which the suite plays the other region. It must differ from that
	// of the region under test.
	Region company.Region
	// API is the base URL at which the region takes API calls from gateways; empty to leave out
	// the checks that need it. Token is an access token of somebody who may read and change the
	// company there, and CompanyHeader the header that names the company.
	API, Token, CompanyHeader string
	// Only names the checks to make, by their name or by what stands before its dot; none for
	// all.
	Only []string
}

// Outcome is how a check ended.
type Outcome string

// The outcomes of a check.
const (
	Pass    Outcome = "PASS"
	Fail    Outcome = "FAIL"
	Skipped Outcome = "SKIPPED"
)

// Check is one thing that a region must do.
type Check struct {
	Name string `json:"name"`
	// Rule is the sentence of docs/region-contract.md that is checked.
	Rule string `json:"rule"`
	// API says that it needs [Options.API].
	API bool `json:"api,omitempty"`

	stage stage
	run   func(context.Context, *suite, state) error
}

// Result is how a check has ended.
type Result struct {
	Check
	Outcome Outcome `json:"outcome"`
	// Want and Got are what was expected and what came, of a check that failed.
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Why is the reason of a check that was left out.
	Why string `json:"why,omitempty"`
}

// Summary is what came of a run.
type Summary struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	// Blocked counts those of the skipped that couldn't be made because the region doesn't do
	// what they build on. They are no pass.
	Blocked int `json:"blocked"`
	// Serving says that the region owns the company again, at Epoch. Trouble says why it doesn't,
	// or which rows aren't as they were.
	Serving bool   `json:"serving"`
	Epoch   int64  `json:"epoch,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// Conforms says whether nothing speaks against the region.
func (s *Summary) Conforms() bool {
	return s.Failed == 0 && s.Blocked == 0 && s.Serving && s.Trouble == ""
}

// suite is a run.
type suite struct {
	Options
	client *http.Client
	// run tells the moves of one run from those of others; moves counts them.
	run   string
	moves int
	// move and turn are those of the mover that the suite plays; epoch is the placement's.
	move  string
	turn  int64
	epoch int64
	// twin is the company since it left, leftAt the version at which it did, and reusing says
	// that it comes back by the changes since.
	twin    *twin
	leftAt  int64
	reusing bool
	// first is the company as it was found.
	first map[string][]row
	// played says that the twin has what the suite makes, in the changes after the version
	// playedAfter.
	played      bool
	playedAfter int64
}

// homeWithin bounds how long the suite tries to bring the company back at the end.
const homeWithin = 2 * time.Minute

// Checks are all checks, in their order.
func Checks() []Check {
	var all []Check
	for _, part := range [][]Check{accessChecks, readChecks, departureChecks, doorChecks, returnChecks, logChecks, copyChecks, endChecks} {
		all = append(all, part...)
	}
	return all
}

// Chosen are the checks that [Options.Only] names, or an error where it names one that isn't
// there.
func Chosen(only []string) ([]Check, error) {
	all := Checks()
	if len(only) == 0 {
		return all, nil
	}
	chosen := make([]bool, len(all))
	for _, name := range only {
		there := false
		for i, c := range all {
			group, _, _ := strings.Cut(c.Name, ".")
			if c.Name == name || group == name {
				chosen[i], there = true, true
			}
		}
		if !there {
			return nil, fmt.Errorf("there is no check %q", name)
		}
	}
	var list []Check
	for i, c := range all {
		if chosen[i] {
			list = append(list, c)
		}
	}
	return list, nil
}

// Run makes the checks, in their order, and reports each. It begins with a company that the
// region owns, and fails where that isn't so: nothing was changed then. When the context ends
// it makes no more checks. In each case it tries to have the region own the company at the end.
func Run(ctx context.Context, o Options, report func(Result)) (*Summary, error) {
	o.URL, o.API = strings.TrimSuffix(o.URL, "/"), strings.TrimSuffix(o.API, "/")
	checks, err := Chosen(o.Only)
	if err != nil {
		return nil, err
	}
	s := &suite{Options: o, client: newClient(), run: rand.Text()[:8]}
	defer s.client.CloseIdleConnections()
	_, now, err := s.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the region of company %d: %w", o.Company, err)
	}
	if now != serving {
		return nil, fmt.Errorf("the fence of company %d is %s: the suite begins with a company that the region owns", o.Company, now)
	}
	s.begin()
	if s.first, _, err = s.readAll(ctx); err != nil {
		s.first = nil // the checks say what is wrong with it
	}
	summary := &Summary{}
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		r, isBlocked := s.check(ctx, c)
		if ctx.Err() != nil {
			break // what came of it says nothing of the region
		}
		switch r.Outcome {
		case Pass:
			summary.Passed++
		case Fail:
			summary.Failed++
		case Skipped:
			summary.Skipped++
			if isBlocked {
				summary.Blocked++
			}
		}
		report(r)
	}
	s.goHome(context.WithoutCancel(ctx), summary)
	return summary, ctx.Err()
}

// check brings the company to the stage that a check needs, and makes it.
func (s *suite) check(ctx context.Context, c Check) (r Result, isBlocked bool) {
	r = Result{Check: c, Outcome: Pass}
	if c.API && s.API == "" {
		r.Outcome, r.Why = Skipped, "no address of the region's API was given"
		return r, false
	}
	st, err := s.reach(ctx, c.stage)
	if err != nil {
		r.Outcome, r.Why = Skipped, fmt.Sprintf("the company can't be made %s: %v", c.stage, err)
		return r, true
	}
	err = c.run(ctx, s, st)
	var f *finding
	var no *blocked
	switch {
	case err == nil:
	case errors.As(err, &no):
		r.Outcome, r.Why, isBlocked = Skipped, no.why, true
	case errors.As(err, &f):
		r.Outcome, r.Want, r.Got = Fail, f.want, f.got
	default:
		r.Outcome, r.Want, r.Got = Fail, "an answer", err.Error()
	}
	return r, isBlocked
}

// blocked says that a check can't be made for something else that the region doesn't do.
type blocked struct{ why string }

func (i *blocked) Error() string { return i.why }

// goHome has the region own the company, whatever the run has left, with the rows that it was
// found with. A company that is on its way, and doesn't arrive, begins its way anew once.
func (s *suite) goHome(ctx context.Context, summary *Summary) {
	ctx, cancel := context.WithTimeout(ctx, homeWithin)
	defer cancel()
	_, err := s.reach(ctx, serving)
	if err != nil {
		if given := s.abandon(ctx); given == nil {
			_, err = s.reach(ctx, serving)
		}
	}
	if summary.Serving = err == nil; summary.Serving {
		if err = s.asFound(ctx); err != nil {
			err = fmt.Errorf("not all rows are as they were: %w", err)
			_, home := s.reach(ctx, serving)
			summary.Serving = home == nil
		}
	}
	if summary.Epoch = s.epoch; err != nil {
		summary.Trouble = err.Error()
	}
}

// asFound makes the rows what they were when the run began, where they aren't, and wants them
// to be so.
func (s *suite) asFound(ctx context.Context) error {
	if s.first == nil {
		return nil // they couldn't be read, and so the company has never left
	}
	found := &twin{rows: s.first}
	rows, _, err := s.readAll(ctx)
	if err != nil || found.differences(rows) == "" {
		return err
	}
	if err := s.elsewhere(ctx, "the company as it was", s.restore); err != nil {
		return err
	}
	return s.has(ctx, found, "the company as it was")
}
