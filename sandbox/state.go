package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mpr/company"
	"mpr/problem"
)

// State is the record of an environment that is refreshed. Every change of it is a
// compare-and-set.
type State struct {
	// Serving is the generation that serves, 0 before the first refresh.
	Serving int `json:"serving"`
	// Building is the generation that a refresh is making; 0 where none is.
	Building int `json:"building"`
	// Highest is the highest generation that there ever was. No number comes twice, so that
	// what a refresh that died has left is never taken for something else.
	Highest int `json:"highest"`
	// Since is when the environment was first seen.
	Since time.Time `json:"since"`
	// Run is the refresh that is running, or was the last; Last the last that came to its
	// end.
	Run  *Run `json:"run,omitempty"`
	Last *Run `json:"last,omitempty"`
}

// Run is a refresh.
type Run struct {
	Generation int       `json:"generation"`
	Started    time.Time `json:"started"`
	// Alive is until when it is taken to be running without having said so again.
	Alive time.Time `json:"alive"`
	Ended time.Time `json:"ended,omitzero"`
	// Error says why it failed; empty where it didn't.
	Error string `json:"error,omitempty"`
	Progress
}

// Progress is how far a refresh is.
type Progress struct {
	Phase string `json:"phase"`
	// Companies counts those to be copied, Copied those that have been; Rows are theirs.
	Companies int   `json:"companies"`
	Copied    int   `json:"copied"`
	Rows      int64 `json:"rows"`
	Users     int64 `json:"users"`
	Apps      int64 `json:"apps"`
	// Skipped are companies of which there can be no copy, and why: the first of them.
	Skipped []Skipped `json:"skipped,omitempty"`
}

// Skipped is a company that isn't copied.
type Skipped struct {
	Company company.ID `json:"company"`
	Reason  string     `json:"reason"`
}

// Record is where the state is kept.
type Record interface {
	// Read answers nil and 0 where there is none.
	Read(context.Context) (value []byte, revision uint64, err error)
	// Replace answers [problem.Conflict] where the revision is another.
	Replace(ctx context.Context, value []byte, revision uint64) error
}

// ReadState decodes a record; nil is the state of an environment that was never refreshed.
func ReadState(value []byte) (State, error) {
	var s State
	if value == nil {
		return s, nil
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return s, fmt.Errorf("read the state of a sandbox: %w", err)
	}
	return s, nil
}

// read answers the state.
func (r *Refresher) read(ctx context.Context) (State, uint64, error) {
	value, revision, err := r.Record.Read(ctx)
	if err != nil {
		return State{}, 0, err
	}
	s, err := ReadState(value)
	return s, revision, err
}

// attempts is how often a change is tried that others get ahead of.
const attempts = 20

// change changes the state. f may run more than once; what it refuses changes nothing.
func (r *Refresher) change(ctx context.Context, f func(*State) error) (State, error) {
	for attempt := 1; ; attempt++ {
		s, revision, err := r.read(ctx)
		if err != nil {
			return s, err
		}
		if err := f(&s); err != nil {
			return s, err
		}
		value, err := json.Marshal(s)
		if err != nil {
			return s, err
		}
		err = r.Record.Replace(ctx, value, revision)
		if err == nil || attempt == attempts || !errors.Is(err, problem.New(problem.Conflict, "")) {
			return s, err
		}
	}
}
