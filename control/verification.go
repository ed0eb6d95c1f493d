package control

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"mpr/problem"
	"mpr/store"
)

// Verification is a comparison of the directory with the fences that goes on in the background. This
// control process remembers the last one of each environment.
type Verification struct {
	Running bool      `json:"running"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	By      string    `json:"by,omitempty"`
	// Survey is what it has come to, up to now.
	Survey Survey `json:"survey"`
	// Differences are the first that were found.
	Differences []Difference `json:"differences"`
	// Problem is why it ended without a result.
	Problem string `json:"problem,omitempty"`
}

// differencesKept bounds the differences that are remembered.
const differencesKept = 200

// verifications are those of an environment.
type verifications struct {
	mu   sync.Mutex
	last Verification
}

func (v *verifications) change(f func(*Verification)) Verification {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.last)
	now := v.last
	now.Differences = append([]Difference{}, now.Differences...)
	return now
}

func (s *Service) showVerification(_ *http.Request, e *Environment) (int, any, error) {
	return http.StatusOK, e.verified.change(func(*Verification) {}), nil
}

// startVerification begins to compare, unless that is under way.
func (s *Service) startVerification(r *http.Request, e *Environment) (int, any, error) {
	if e.Registry == nil {
		return 0, nil, problem.New(problem.NotFound, "%s has no directory here.", e.Name)
	}
	begun := false
	now := e.verified.change(func(v *Verification) {
		if begun = !v.Running; begun {
			*v = Verification{Running: true, Started: time.Now().UTC(), By: askedBy(r).by, Survey: Survey{Differences: map[string]int{}}}
		}
	})
	if !begun {
		return 0, nil, problem.New(problem.Conflict, "The directory is being compared already, for %s.", now.By)
	}
	s.loops.Go(func() { s.compare(e) })
	return http.StatusAccepted, now, nil
}

// compare compares the directory of an environment with the fences.
func (s *Service) compare(e *Environment) {
	v, err := s.survey(s.background, e)
	if err == nil {
		y := newSurveyor(v, nil, func(line SurveyLine) error {
			e.verified.change(func(v *Verification) {
				if line.Progress != nil {
					v.Survey = line.Progress.clone()
				}
				if line.Difference != nil && len(v.Differences) < differencesKept {
					v.Differences = append(v.Differences, *line.Difference)
				}
			})
			return nil
		})
		err = y.run(s.background)
		e.verified.change(func(v *Verification) { v.Survey = y.now.clone() })
	}
	if err != nil {
		slog.Warn("a comparison of the directory broke off", "environment", e.Name, "error", err)
	}
	e.verified.change(func(v *Verification) {
		v.Running, v.Ended = false, time.Now().UTC()
		if err != nil {
			v.Problem = problem.From(store.Explain(err)).Message
		}
	})
}

// clone is a copy that doesn't change any more.
func (s Survey) clone() Survey {
	counts := make(map[string]int, len(s.Differences))
	for kind, n := range s.Differences {
		counts[kind] = n
	}
	s.Differences = counts
	return s
}

// Verification shows the last comparison of the directory with the fences.
func (c *Client) Verification(ctx context.Context) (out Verification, err error) {
	err = c.do(ctx, http.MethodGet, "/directory/verification", nil, &out)
	return out, err
}

// StartVerification begins a comparison.
func (c *Client) StartVerification(ctx context.Context) (out Verification, err error) {
	err = c.do(ctx, http.MethodPost, "/directory/verification", nil, &out)
	return out, err
}
