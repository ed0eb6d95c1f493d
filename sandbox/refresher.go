package sandbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/problem"
)

// Directory says where companies live, and where regions are.
type Directory interface {
	Regions(context.Context) ([]company.RegionInfo, error)
	PutRegion(context.Context, company.RegionInfo) error
	Get(context.Context, company.ID) (company.Placement, uint64, error)
	// Load records placements of companies that have none.
	Load(context.Context, iter.Seq[company.Placement]) (int, error)
}

// Environment is the original or the sandbox.
type Environment struct {
	Name string
	// Directory is that of the generation that serves.
	Directory Directory
	// IdentityURL is the base URL of the login service's internal listener.
	IdentityURL string
}

// Options are what a [Refresher] needs.
type Options struct {
	From, To Environment
	Record   Record
	// Begin opens the directory of a generation that is to be made, and lets go of what is
	// kept of all but this one and the one that serves.
	Begin func(ctx context.Context, serving, building int) (Directory, error)
	// Secret is the secret that our processes show one another.
	Secret string
	// Transport carries calls to our processes; nil for plain HTTP, and https as the system trusts it.
	Transport http.RoundTripper
	Now       func() time.Time
}

// Refresher refreshes a sandbox: when it is told to, and on the first working day of each
// month. Several of them, in several processes, make one refresh.
type Refresher struct {
	Options
	from   *intercom.Caller // of processes of the original
	cancel context.CancelFunc
	loops  sync.WaitGroup
	ctx    context.Context // of what runs in the background
}

const (
	// lookEvery is how often the schedule is looked at.
	lookEvery = time.Minute
	// aliveFor is how long a refresh is taken to be running after its last sign of life,
	// which it gives every beatEvery, and with each phase. It bounds waiting and nothing else: one that is taken
	// for dead and isn't finds out before it changes what serves.
	aliveFor  = 15 * time.Second
	beatEvery = time.Second
)

// New notes that the environment is there, and begins to follow the schedule.
func New(ctx context.Context, o Options) (*Refresher, error) {
	r := &Refresher{Options: o, from: intercom.NewCaller(o.Transport, o.Secret)}
	if err := r.meet(ctx); err != nil {
		return nil, fmt.Errorf("sandbox %s: %w", o.To.Name, err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.loops.Go(r.follow)
	return r, nil
}

// Close ends the background work. A refresh that is running fails.
func (r *Refresher) Close() error {
	r.cancel()
	r.loops.Wait()
	return r.from.Close()
}

// meet notes when the environment was first seen.
func (r *Refresher) meet(ctx context.Context) error {
	_, err := r.change(ctx, func(s *State) error {
		if !s.Since.IsZero() {
			return errSeen
		}
		s.Since = r.Now().UTC()
		return nil
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	return err
}

var errSeen = errors.New("it has been seen before")

// follow keeps the schedule. What was missed while no process ran is made up for at once.
func (r *Refresher) follow() {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := r.keepSchedule(r.ctx); err != nil && r.ctx.Err() == nil {
			slog.Error("the sandbox can't be refreshed; the schedule tries again", "environment", r.To.Name, "error", err)
		}
		select {
		case <-r.ctx.Done():
			return
		case <-look.C:
		}
	}
}

// keepSchedule refreshes where a refresh is due and nobody else is at it.
func (r *Refresher) keepSchedule(ctx context.Context) error {
	s, _, err := r.read(ctx)
	if err != nil || !s.due(r.Now()) {
		return err
	}
	run, err := r.begin(ctx, func(s *State) error {
		if !s.due(r.Now()) {
			return errNotDue
		}
		return nil
	})
	if errors.Is(err, errNotDue) || errors.Is(err, problem.New(problem.Conflict, "")) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return r.run(ctx, run)
}

var errNotDue = errors.New("no refresh is due")

// Start begins a refresh, which goes on in the background.
func (r *Refresher) Start(ctx context.Context) (Run, error) {
	run, err := r.begin(ctx, func(*State) error { return nil })
	if err != nil {
		return Run{}, err
	}
	r.loops.Go(func() {
		if err := r.run(r.ctx, run); err != nil {
			slog.Error("the sandbox wasn't refreshed", "environment", r.To.Name, "error", err)
		}
	})
	return run, nil
}

// Show answers the state, and when the schedule refreshes next.
func (r *Refresher) Show(ctx context.Context) (State, time.Time, error) {
	s, _, err := r.read(ctx)
	next := nextDue(r.Now())
	if s.due(r.Now()) {
		next = lastDue(r.Now())
	}
	return s, next, err
}

// begin takes the next generation, where no refresh is running and may agrees.
func (r *Refresher) begin(ctx context.Context, may func(*State) error) (Run, error) {
	s, err := r.change(ctx, func(s *State) error {
		now := r.Now().UTC()
		if err := may(s); err != nil {
			return err
		}
		if s.Building != 0 && now.Before(s.Run.Alive) {
			return problem.New(problem.Conflict, "%s is being refreshed since %s. If that refresh has died, another one can begin at %s.", r.To.Name, s.Run.Started.Format(time.RFC3339), s.Run.Alive.UTC().Format(time.RFC3339))
		}
		s.Highest++
		s.Building = s.Highest
		s.Run = &Run{Generation: s.Building, Started: now, Alive: now.Add(aliveFor), Progress: Progress{Phase: phasePrepare}}
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	return *s.Run, nil
}

// run makes a generation that was begun, and has it serve.
func (r *Refresher) run(ctx context.Context, run Run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := r.newBuild(run.Generation)
	b.note(func(p *Progress) { *p = run.Progress })
	var beating sync.WaitGroup
	beating.Go(func() { b.beat(ctx, cancel) })
	err := b.make(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	beating.Wait()
	// Whatever ends this process's work, what has become of it is still noted.
	note, done := context.WithTimeout(context.WithoutCancel(ctx), aliveFor)
	defer done()
	if err != nil {
		return errors.Join(err, b.fail(note, err))
	}
	return b.serve(note)
}

// errOvertaken ends a refresh that was taken for dead.
var errOvertaken = errors.New("another refresh has begun meanwhile")

// mine changes the state as long as this generation is the one that is being made.
func (b *build) mine(ctx context.Context, f func(*State)) error {
	_, err := b.change(ctx, func(s *State) error {
		if s.Building != b.generation {
			return errOvertaken
		}
		s.Run.Progress = b.progress()
		f(s)
		return nil
	})
	return err
}

// beat gives signs of life, with the progress, until the context ends.
func (b *build) beat(ctx context.Context, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-b.entered:
		}
		err := b.mine(ctx, func(s *State) { s.Run.Alive = b.Now().UTC().Add(aliveFor) })
		if errors.Is(err, errOvertaken) {
			giveUp(err)
			return
		}
	}
}

// serve is the switch: one compare-and-set, and the generation is the one that serves.
func (b *build) serve(ctx context.Context) error {
	return b.mine(ctx, func(s *State) {
		s.Run.Phase, s.Run.Ended = phaseDone, b.Now().UTC()
		last := *s.Run
		s.Serving, s.Building, s.Last = b.generation, 0, &last
	})
}

func (b *build) fail(ctx context.Context, why error) error {
	err := b.mine(ctx, func(s *State) {
		s.Building, s.Run.Ended, s.Run.Error = 0, b.Now().UTC(), problemText(why)
	})
	if errors.Is(err, errOvertaken) {
		return nil // the other one says how it went
	}
	return err
}

// problemText is what an administrator is told of an error.
func problemText(err error) string {
	const most = 1000
	if text := []rune(err.Error()); len(text) > most {
		return string(text[:most])
	}
	return err.Error()
}
