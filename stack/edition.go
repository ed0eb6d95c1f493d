package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"

	"mpr/config"
	"mpr/directory"
	"mpr/gateway"
	"mpr/problem"
	"mpr/store"
)

// edition is the roles that this process runs of an environment, on one generation of its
// stores and buckets. An environment that is never refreshed has one edition, of
// generation 0.
type edition struct {
	*shared
	system      *system
	environment *config.Environment
	served      *served
	generation  int
	// name is that of the process, for its files.
	name string
	// buckets is the name of the environment that buckets and streams are named after.
	buckets string
	// first says that no edition has served before, so that listeners are opened.
	first bool

	gateway *gateway.Service // nil in a process that has none; set while the edition is built

	ended context.Context // done when calls in flight are cut off
	end   context.CancelFunc
	calls sync.WaitGroup

	mu        sync.Mutex // guards the rest
	handlers  map[string]http.Handler
	closers   []func() error
	directory *directory.Directory
}

// bucketsOf is the name that the buckets of a generation are named after.
func bucketsOf(e *config.Environment, generation int) string {
	if generation == 0 {
		return e.Name
	}
	return generationPrefix(e) + fmt.Sprint(generation)
}

// generationPrefix is what the names of all generations but 0 begin with.
func generationPrefix(e *config.Environment) string { return e.Name + " generation " }

// newEdition opens what the roles of the edition share.
func (v *served) newEdition(ctx context.Context, generation int) (*edition, error) {
	ed := &edition{
		system: v.system, environment: v.environment, served: v, generation: generation,
		name: v.name, buckets: bucketsOf(v.environment, generation), handlers: map[string]http.Handler{},
	}
	ed.ended, ed.end = context.WithCancel(context.Background())
	if err := ed.follow(ctx); err != nil {
		return nil, errors.Join(err, ed.close())
	}
	return ed, nil
}

// add closes c with the edition.
func (ed *edition) add(c io.Closer) {
	if !ed.served.refreshed {
		ed.system.add(c) // in the order of all that the process has opened
		return
	}
	ed.mu.Lock()
	defer ed.mu.Unlock()
	ed.closers = append(ed.closers, c.Close)
}

// open opens the edition's generation of a store. name is what operators see it by.
func (ed *edition) open(ctx context.Context, name, dsn string, migrations fs.FS) (*store.DB, error) {
	db, err := storeOptions(ed.system.config).OpenGeneration(ctx, dsn, ed.generation, migrations)
	if err != nil {
		return nil, err
	}
	ed.add(db)
	ed.add(closing(ed.system.shown(name, db, ed)))
	return db, nil
}

// dir is the edition's directory, opened when it is first needed.
func (ed *edition) dir(ctx context.Context) (*directory.Directory, error) {
	ed.mu.Lock()
	defer ed.mu.Unlock()
	if ed.directory == nil {
		d, err := directory.Open(ctx, ed.system.nats, ed.buckets, ed.system.config.Directory.Replicas)
		if err != nil {
			return nil, err
		}
		ed.directory = d
	}
	return ed.directory, nil
}

// serve has a door answered by h, while this edition is the one that serves. It answers
// the handler that goes on when another edition serves.
func (ed *edition) serve(address *string, h http.Handler) (http.Handler, error) {
	return ed.answer(address, h, false)
}

// serveInternal is serve for our own processes, which may name the edition that they
// want.
func (ed *edition) serveInternal(address *string, h http.Handler) error {
	_, err := ed.answer(address, h, true)
	return err
}

func (ed *edition) answer(address *string, h http.Handler, internal bool) (http.Handler, error) {
	if !ed.served.refreshed {
		return h, ed.system.bindAndServe(address, h)
	}
	if ed.first {
		if _, err := ed.system.bind(address); err != nil { // the address becomes a real one
			return nil, err
		}
	}
	door := *address
	ed.mu.Lock()
	ed.handlers[door] = h
	ed.mu.Unlock()
	if !ed.first {
		return nil, nil //nolint:nilnil // the listeners are there already
	}
	outer := ed.served.handler(door, internal)
	return outer, ed.system.bindAndServe(address, outer)
}

// answerCall answers a call of a door, until the edition ends.
func (ed *edition) answerCall(door string, w http.ResponseWriter, r *http.Request) {
	ed.mu.Lock()
	h := ed.handlers[door]
	ed.mu.Unlock()
	if h == nil {
		problem.Write(w, r, errNotReady)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ed.ended, cancel)()
	h.ServeHTTP(w, r.WithContext(ctx))
}

// retire lets calls in flight end, cuts off those that take too long, and closes all.
func (ed *edition) retire() {
	ended := make(chan struct{})
	go func() { ed.calls.Wait(); close(ended) }()
	ctx, cancel := context.WithTimeout(context.Background(), ed.system.stop.DrainTime)
	defer cancel()
	select {
	case <-ended:
	case <-ctx.Done():
		slog.Warn("calls were still running and are cut off", "environment", ed.environment.Name, "generation", ed.generation)
		ed.end()
		<-ended
	}
	if err := ed.close(); err != nil {
		slog.Warn("close what is no longer served", "environment", ed.environment.Name, "generation", ed.generation, "error", err)
	}
}

// close closes all in reverse order. No call must be running.
func (ed *edition) close() error {
	ed.end()
	ed.mu.Lock()
	defer ed.mu.Unlock()
	var errs []error
	for i := len(ed.closers) - 1; i >= 0; i-- {
		errs = append(errs, ed.closers[i]())
	}
	ed.closers = nil
	return errors.Join(errs...)
}
