package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"mpr/company"
)

// steps is where movers tell their steps, and wait until they may go on.
type steps struct {
	server *httptest.Server

	mu sync.Mutex
	// halts says at which step the mover of a company is to wait, and failing at which it is
	// told to fail, once.
	halts, failing map[company.ID]string
	// waiting are the movers that wait, by the company, and the step of each.
	waiting map[company.ID]string
	changed chan struct{} // closed when anything of this changes
}

func newSteps(t *testing.T) *steps {
	t.Helper()
	s := &steps{halts: map[company.ID]string{}, failing: map[company.ID]string{}, waiting: map[company.ID]string{}, changed: make(chan struct{})}
	s.server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.set(func() { clear(s.halts) })
		s.server.Close()
	})
	return s
}

func (s *steps) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// halt has the mover of a company wait at a step.
func (s *steps) halt(id company.ID, step string) { s.set(func() { s.halts[id] = step }) }

// fail has a step of a company's mover fail, once.
func (s *steps) fail(id company.ID, step string) { s.set(func() { s.failing[id] = step }) }

// release has all movers go on.
func (s *steps) release() { s.set(func() { clear(s.halts) }) }

// ServeHTTP is told of a step.
func (s *steps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var step stepOf
	if err := json.NewDecoder(r.Body).Decode(&step); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	failed := false
	for {
		s.mu.Lock()
		halted, changed := s.halts[step.Company] == step.Name, s.changed
		was := s.waiting[step.Company] == step.Name
		if s.failing[step.Company] == step.Name {
			delete(s.failing, step.Company)
			failed = true
		}
		s.mu.Unlock()
		if failed {
			w.WriteHeader(http.StatusConflict)
			return
		}
		if !halted {
			if was {
				s.set(func() { delete(s.waiting, step.Company) })
			}
			return
		}
		if !was {
			s.set(func() { s.waiting[step.Company] = step.Name })
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done(): // the mover has gone
			s.set(func() { delete(s.waiting, step.Company) })
			return
		}
	}
}

// await waits until movers wait at all of these steps at the same time.
func (s *steps) await(t *testing.T, want map[company.ID]string) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		s.mu.Lock()
		there, changed := maps.Clone(s.waiting), s.changed
		s.mu.Unlock()
		maps.DeleteFunc(there, func(id company.ID, _ string) bool { return want[id] == "" })
		if maps.Equal(there, want) {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("movers wait at %s, and not at %s", fmt.Sprint(there), fmt.Sprint(want))
		}
	}
}
