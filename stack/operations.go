package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"mpr/gateway"
	"mpr/ledger"
	"mpr/move"
	"mpr/observe"
	"mpr/problem"
	"mpr/store"
)

// startObserving makes what operators see of the process, and answers at the operations
// listener, before anything else is there: who waits to be ready can say for what. The process
// isn't ready until the answered function is called.
func (s *system) startObserving(ctx context.Context, role string) (ready func(), err error) {
	o := observe.Options{Role: role, Version: buildVersion(), Access: observe.AccessLog{File: s.config.AccessLog.File, Share: s.config.AccessLog.Share}}
	p, err := observe.New(o)
	if err != nil {
		return nil, err
	}
	s.observe = p
	s.add(p)
	if t := s.config.Tracing; t.Endpoint != "" {
		if err := p.StartTracing(ctx, observe.Tracing{Endpoint: t.Endpoint, Share: t.Share}); err != nil {
			return nil, err
		}
		store.Trace()
	}
	ready = p.Check(observe.Check{Name: "start", Ask: func(context.Context) error { return errStarting }}) // before anybody can ask
	if s.config.Operations.Listen == "" {
		return ready, nil
	}
	return ready, s.bindAndServe(&s.config.Operations.Listen, p.Handler())
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// errStarting is why a process isn't ready at first.
var errStarting = errors.New("the process is starting; its log says what it waits for")

// checkDirectory has readiness say whether the directory can be reached. Only who changes it
// can't do without.
func (s *system) checkDirectory(needed bool) {
	s.observe.Check(observe.Check{Name: "directory", Needed: func() bool { return needed }, Ask: func(context.Context) error {
		if s.nats.IsConnected() {
			return nil
		}
		err := fmt.Errorf("the directory can't be reached (the connection is %s)", s.nats.Status())
		if why := s.nats.LastError(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		return err
	}})
}

// shown shows a database, and has readiness ask it, until the answered function is called. ed is the edition whose
// it is; nil for one of the control role.
func (s *system) shown(name string, db *store.DB, ed *edition) (hide func() error) {
	check := observe.Check{Name: name, Ask: db.Ping}
	if ed != nil {
		// One that is filled, or that is no longer served, keeps no calls away.
		check.Environment, check.Needed = ed.environment.Name, func() bool { return ed.served.edition() == ed }
	}
	unchecked := s.observe.Check(check)
	hidden := s.observe.Database(name, db.Pools())
	return func() error {
		unchecked()
		hidden()
		return nil
	}
}

// healthy answers /readyz at a listener of a region, for gateways that look whether it is
// well, and leaves the rest to next. Of a process that is about to stop every answer says so: gateways
// have turned to the others by the time that it takes no more calls.
func (s *system) healthy(environment string, next http.Handler) http.Handler {
	ready := s.observe.ReadyOf(environment)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.observe.Draining() {
			w.Header().Set(gateway.LeavingHeader, "1")
		}
		if r.URL.Path != observe.ReadyPath {
			next.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			problem.Write(w, r, problem.New(problem.MethodNotAllowed, "This method isn't possible here. Use GET."))
			return
		}
		ready.ServeHTTP(w, r)
	})
}

// pauseBuckets are seconds: a change-over is to take less than a quarter of one.
var pauseBuckets = []float64{.005, .01, .025, .05, .1, .15, .25, .5, 1, 2.5, 5}

// showFigures shows what the control role's database says of moves, and what the books of the
// ledger say, by their environment.
func (s *system) showFigures(queue *move.Queue, books map[string]*ledger.Book) {
	s.observe.Tables(observe.Table{
		Name: "mpr_moves", Help: "Moves that aren't done, by the environment, the phase that they are in, and whether something keeps them from going on.",
		Labels: []string{"environment", "phase", "state"},
		Read: func(ctx context.Context) (all []observe.Sample, err error) {
			counts, err := queue.Counts(ctx)
			for _, c := range counts {
				all = append(all, observe.Sample{Labels: []string{c.Environment, string(c.Phase), c.State}, Value: float64(c.Moves)})
			}
			return all, err
		},
	}, observe.Table{
		Name: "mpr_move_rows", Help: "Rows that the moves under way have copied, and have to copy, and the changes that their destinations are behind.",
		Labels: []string{"environment", "rows"},
		Read: func(ctx context.Context) (all []observe.Sample, err error) {
			for i := range s.config.Environments {
				name := s.config.Environments[i].Name
				moves, err := queue.List(ctx, name, true, movesShown)
				if err != nil {
					return nil, err
				}
				var copied, total, behind int64
				for _, m := range moves {
					copied, total, behind = copied+m.Copied, total+m.Rows, behind+m.Lag
				}
				for kind, n := range map[string]int64{"copied": copied, "total": total, "behind": behind} {
					all = append(all, observe.Sample{Labels: []string{name, kind}, Value: float64(n)})
				}
			}
			return all, nil
		},
	}, observe.Table{
		Name: "mpr_ledger_calls_today", Help: "Non-compliant calls of this day (UTC), by their kind, and whether they were refused.",
		Labels: []string{"environment", "kind", "refused"},
		Read: func(ctx context.Context) (all []observe.Sample, err error) {
			for name, book := range books {
				totals, err := book.Today(ctx)
				if err != nil {
					return nil, err
				}
				for _, t := range totals {
					all = append(all, observe.Sample{Labels: []string{name, string(t.Kind), strconv.FormatBool(t.Refused)}, Value: float64(t.Calls)})
				}
			}
			return all, nil
		},
	})
}

// movesShown bounds the moves that are added up for a figure.
const movesShown = 500

// contextFor is a context that ends by itself, so that nobody need end it.
func contextFor(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
