package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"mpr/config"
	"mpr/directory"
	"mpr/observe"
	"mpr/problem"
	"mpr/sandbox"
	"mpr/store"
)

// served is an environment that this process serves. One that is refreshed has an edition
// that serves and, while a refresh runs, another one that is filled; when the record says
// so the second takes over from the first.
type served struct {
	system      *system
	environment *config.Environment
	name        string
	refreshed   bool
	build       func(context.Context, *edition) error

	follower *directory.Follower
	wakeUp   chan struct{} // the state has changed
	cancel   context.CancelFunc
	loops    sync.WaitGroup

	mu      sync.Mutex // guards the rest
	state   sandbox.State
	current *edition
	next    *edition
	giveUp  context.CancelFunc // of the edition that is being opened
	opening int                // its generation
}

const (
	// generationsBucket holds the states of refreshed environments.
	generationsBucket = "generations"
	// reopenEvery is how often opening an edition is tried that can't be opened.
	reopenEvery = time.Second
)

var errNotReady = problem.New(problem.NotReady, "This isn't ready yet. Try again.").After(time.Second)

// recordKey is the key of an environment's state.
func recordKey(e *config.Environment) string { return directory.BucketName("of", e.Name) }

// serveEnvironment serves an environment with the roles that build starts.
func (s *system) serveEnvironment(ctx context.Context, e *config.Environment, name string, build func(context.Context, *edition) error) (*served, error) {
	v := &served{
		system: s, environment: e, name: name, build: build, refreshed: e.Sandbox == config.SandboxMonthly,
		wakeUp: make(chan struct{}, 1), cancel: func() {}, giveUp: func() {},
	}
	if v.refreshed {
		s.onClose(v.close)
		if err := v.learn(ctx); err != nil {
			return nil, err
		}
	}
	v.mu.Lock()
	generation := v.state.Serving
	v.mu.Unlock()
	first, err := v.newEdition(ctx, generation)
	if err != nil {
		return nil, err
	}
	first.first = true
	s.observe.Serves(e.Name)
	v.mu.Lock()
	v.current = first
	v.mu.Unlock()
	s.observe.Replica(e.Name, func() observe.Replica {
		replica := v.edition().replica // not that of one which is being filled
		return observe.Replica{Age: replica.Age(), Companies: replica.Len()}
	})
	if err := build(ctx, first); err != nil {
		return nil, err
	}
	if v.refreshed {
		background, cancel := context.WithCancel(context.Background())
		v.cancel = cancel
		v.loops.Go(func() { v.run(background) })
	}
	s.mu.Lock()
	s.served[e.Name] = v
	s.mu.Unlock()
	return v, nil
}

// edition is the one that serves.
func (v *served) edition() *edition {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.current
}

// file notes which generation serves, for a start without the directory.
func (v *served) file() string {
	return filepath.Join(v.system.config.Folder(v.environment), v.name+".generation")
}

// learn begins to follow the state, and waits until it is known, from the directory or
// from disk.
func (v *served) learn(ctx context.Context) error {
	known := true
	data, err := os.ReadFile(v.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		known = false
	case err != nil:
		return fmt.Errorf("read which generation serves: %w", err)
	default:
		if err := json.Unmarshal(data, &v.state); err != nil {
			return fmt.Errorf("read which generation serves: %s: %w", v.file(), err)
		}
	}
	slog.InfoContext(ctx, "waiting for the generation that serves, from the directory or from disk", "environment", v.environment.Name)
	making, made := context.WithCancel(ctx)
	v.loops.Go(func() { v.openBucket(making) })
	v.follower = directory.FollowNear(v.system.nats, v.system.near, generationsBucket, v.hear)
	err = directory.Ready(ctx, v.system.nats, known, v.follower)
	made()
	if err != nil {
		return fmt.Errorf("wait for the generation that serves: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.remember(v.state.Serving)
}

// remember notes which generation serves.
func (v *served) remember(generation int) error {
	data, err := json.Marshal(sandbox.State{Serving: generation})
	if err != nil {
		return err
	}
	if err := writeFile(v.file(), data, 0o600); err != nil {
		return fmt.Errorf("note which generation serves: %w", err)
	}
	return nil
}

// openBucket makes the bucket where there is none. Until it is there nobody can have
// refreshed anything, and following it waits.
func (v *served) openBucket(ctx context.Context) {
	retry := time.NewTicker(reopenEvery)
	defer retry.Stop()
	for {
		if _, err := directory.OpenRecord(ctx, v.system.nats, generationsBucket, recordKey(v.environment), v.system.config.Directory.Replicas); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
	}
}

// hear takes a change of the state.
func (v *served) hear(entry directory.Entry) {
	if entry.Key != recordKey(v.environment) {
		return
	}
	state, err := sandbox.ReadState(entry.Value)
	if err != nil {
		slog.Error("leaving out a state that isn't one", "environment", v.environment.Name, "error", err)
		return
	}
	v.mu.Lock()
	changed := state.Serving != v.state.Serving || state.Building != v.state.Building
	v.state = state
	if v.opening != 0 && v.opening != state.Serving && v.opening != state.Building {
		v.giveUp()
	}
	v.mu.Unlock()
	if !changed {
		return
	}
	select {
	case v.wakeUp <- struct{}{}:
	default: // it has been woken already
	}
}

// run opens, switches and closes editions as the state says, until the context ends.
func (v *served) run(ctx context.Context) {
	var told problem.Told
	for {
		err := v.adjust(ctx)
		if ctx.Err() != nil {
			return
		}
		if told.Anew(err) {
			slog.Warn("a generation can't be opened; trying again until it can", "environment", v.environment.Name, "error", err)
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(reopenEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-v.wakeUp:
		case <-again:
		}
	}
}

// adjust brings the editions to what the state says.
func (v *served) adjust(ctx context.Context) error {
	v.mu.Lock()
	state, current, next := v.state, v.current, v.next
	if next != nil && next.generation != state.Serving && next.generation != state.Building {
		v.next = nil
	}
	v.mu.Unlock()
	if next != nil && next.generation != state.Serving && next.generation != state.Building {
		next.retire() // its refresh has failed
		next = nil
	}
	if state.Serving > current.generation {
		return v.switchTo(ctx, state.Serving)
	}
	if state.Building > state.Serving && next == nil {
		_, err := v.prepare(ctx, state.Building)
		return err
	}
	return nil
}

// prepare opens the edition that is filled, beside the one that serves.
func (v *served) prepare(ctx context.Context, generation int) (*edition, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v.mu.Lock()
	v.opening, v.giveUp = generation, cancel
	stale := generation != v.state.Serving && generation != v.state.Building
	serving := v.current.generation
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.opening = 0
		v.mu.Unlock()
	}()
	if stale {
		return nil, nil //nolint:nilnil // the state has changed: there is nothing to open
	}
	if err := v.sweep(ctx, serving, generation); err != nil {
		return nil, err
	}
	ed, err := v.newEdition(ctx, generation)
	if err != nil {
		return nil, fmt.Errorf("generation %d: %w", generation, err)
	}
	v.mu.Lock()
	v.next = ed // its internal listeners answer as soon as they are there
	v.mu.Unlock()
	if err := v.build(ctx, ed); err != nil {
		v.mu.Lock()
		v.next = nil
		v.mu.Unlock()
		ed.retire()
		return nil, fmt.Errorf("generation %d: %w", generation, err)
	}
	return ed, nil
}

// sweep deletes what refreshes have left: the copy before the one that serves, and those
// that were never finished.
func (v *served) sweep(ctx context.Context, keep ...int) error {
	e := v.environment
	stores := []string{"sqlite:" + filepath.Join(v.system.config.Folder(e), v.name)} // files of this process
	if v.name == RoleLogin || v.name == "dev" {
		stores = append(stores, e.Identity.Store)
	}
	for i := range e.Regions {
		if r := &e.Regions[i]; v.system.region == r.Code || v.name == "dev" && len(r.Upstreams) == 0 {
			stores = append(stores, r.Store)
		}
	}
	for _, dsn := range stores {
		if err := store.KeepGenerations(ctx, dsn, keep...); err != nil {
			return err
		}
	}
	return nil
}

// switchTo has the edition of a generation serve. The one before ends when its calls have.
func (v *served) switchTo(ctx context.Context, generation int) error {
	v.mu.Lock()
	ed := v.next
	v.mu.Unlock()
	if ed == nil || ed.generation != generation {
		var err error
		if ed, err = v.prepare(ctx, generation); err != nil || ed == nil {
			return err
		}
	}
	if err := v.remember(generation); err != nil {
		return err
	}
	v.mu.Lock()
	last := v.current
	v.current, v.next = ed, nil
	v.mu.Unlock()
	slog.InfoContext(ctx, "another generation serves", "environment", v.environment.Name, "generation", generation)
	v.loops.Go(last.retire)
	return nil
}

// handler answers a door by the edition that serves; for internal listeners, by the one
// that a call names.
func (v *served) handler(door string, internal bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ed := v.enter(r, internal)
		if ed == nil {
			problem.Write(w, r, errNotReady)
			return
		}
		defer ed.calls.Done()
		ed.answerCall(door, w, r)
	})
}

// enter finds the edition of a call and counts the call. It is nil where there is none.
func (v *served) enter(r *http.Request, internal bool) *edition {
	wanted := r.Header.Get(sandbox.GenerationHeader)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, ed := range []*edition{v.current, v.next} {
		if ed != nil && (ed == v.current && (wanted == "" || !internal) || internal && wanted == strconv.Itoa(ed.generation)) {
			ed.calls.Add(1)
			return ed
		}
	}
	return nil
}

// close ends all editions. The listeners have ended before.
func (v *served) close() error {
	v.cancel()
	if v.follower != nil {
		v.follower.Close()
	}
	v.loops.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, ed := range []*edition{v.next, v.current} {
		if ed != nil {
			errs = append(errs, ed.close())
		}
	}
	return errors.Join(errs...)
}
