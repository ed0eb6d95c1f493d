package move

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/intercom"
	"mpr/problem"
)

// Directory says where companies live, and changes it.
type Directory interface {
	Get(context.Context, company.ID) (company.Placement, uint64, error)
	// Update answers [problem.Conflict] where the record has another revision, and
	// [problem.MoverReplaced] where it is of a later turn.
	Update(ctx context.Context, p company.Placement, revision uint64) (uint64, error)
	Regions(context.Context) ([]company.RegionInfo, error)
	Gateways(context.Context) ([]string, error)
	Hold(context.Context, directory.Hold) (confirmed <-chan string, end func(), err error)
	Release(ctx context.Context, move string, p company.Placement) error
}

// Options are what a [Mover] needs.
type Options struct {
	Queue *Queue
	// Directories are those of the environments, by name.
	Directories map[string]Directory
	// Secret is the secret that our processes show one another.
	Secret string
	// Transport carries calls to our processes; nil for plain HTTP, and https as the system trusts it.
	Transport http.RoundTripper
	// AtOnce is how many moves a region takes part in at the same time.
	AtOnce int
	// Retention is how long the source keeps the rows of a company that has left.
	Retention time.Duration
	// Notice is how long after the copying has begun the change-over waits until each app was
	// told of the move; 0 for not at all.
	Notice time.Duration
	// ChangedOver, where it is set, hears how long nobody owned a company at its change-over.
	ChangedOver func(pause time.Duration)
	// Step, where it is set, is called before each of [Steps] and before each sign of life
	// ("beat"); tests let a mover die or wait there. Its error ends the mover's work on the move.
	Step func(ctx context.Context, m *Move, name string) error
}

// Steps are what a mover does to regions and to the directory, in the order in which a move
// comes by them; the last two undo a change-over.
var Steps = []string{"depart", "arrive", "rows", "changes", "hold", "freeze", "last changes", "commit", "activate", "release", "leave", "new epoch", "thaw"}

const (
	// leaseFor is how long a mover is taken to be alive after its last word, which it gives
	// every beatEvery.
	leaseFor  = 5 * time.Second
	beatEvery = time.Second
	// maxWork bounds the moves that one mover works on at the same time.
	maxWork = 32
	// lookEvery is how often the queue is looked at without being told.
	lookEvery = 500 * time.Millisecond
	// retryAfter is the first wait after a failure, and longestRetry the longest.
	retryAfter   = time.Second
	longestRetry = 30 * time.Second
	// soonRetry is the longest wait where the company may have no owner who serves it: what kept
	// it from one may be over at any moment.
	soonRetry = 2 * time.Second
)

// waitAfter is how long a move waits after a failure, by how many there were before.
func (m *Move) waitAfter() time.Duration {
	longest := longestRetry
	switch m.Phase {
	case Cutting, Committed, Aborting:
		longest = soonRetry
	}
	return min(retryAfter<<min(m.Retries, 5), longest)
}

// Mover works on the moves of a queue.
type Mover struct {
	Options
	caller *intercom.Caller
	woken  chan struct{}
	slots  chan struct{}   // one for each move that is worked on
	ctx    context.Context // of the work
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New starts a mover.
func New(o Options) *Mover {
	m := &Mover{Options: o, caller: intercom.NewCaller(o.Transport, o.Secret), woken: make(chan struct{}, 1), slots: make(chan struct{}, maxWork)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.work.Go(m.look)
	return m
}

// Close ends the work. Moves that are under way go on when a mover is there again.
func (m *Mover) Close() error {
	m.cancel()
	m.work.Wait()
	return m.caller.Close()
}

// Wake has the mover look at the queue now.
func (m *Mover) Wake() {
	select {
	case m.woken <- struct{}{}:
	default: // it has been told already
	}
}

// look takes up moves until the mover is closed.
func (m *Mover) look() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := sightings{}
	for {
		dead, err := seen.look(m.ctx, m.Queue)
		if err != nil && m.ctx.Err() == nil {
			slog.Warn("who works on moves can't be read; trying again", "error", err)
		}
		for m.ctx.Err() == nil && len(m.slots) < maxWork {
			one, err := m.Queue.claim(m.ctx, leaseFor, m.AtOnce, dead)
			if err != nil && m.ctx.Err() == nil {
				slog.Warn("the queue of moves can't be read; trying again", "error", err)
			}
			if err != nil || one == nil {
				break
			}
			m.slots <- struct{}{} // only we put any there
			m.work.Go(func() {
				defer func() { <-m.slots }()
				m.carry(one)
			})
		}
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		case <-m.woken:
		}
	}
}

// sightings are the leases that stand in the queue, by the id of the move, and since when we
// have seen them as they are. Clocks differ between machines, and jump: a lease that ends in
// an hour says nothing, but one that isn't renewed any more does.
type sightings map[string]sighting

type sighting struct {
	lease held
	since time.Time // by our own monotonic clock
}

// look answers the leases that weren't renewed for as long as they are given.
func (s sightings) look(ctx context.Context, q *Queue) (dead map[string]held, err error) {
	now, err := q.leases(ctx)
	if err != nil {
		return nil, err
	}
	for id := range s {
		if _, ok := now[id]; !ok {
			delete(s, id)
		}
	}
	dead = map[string]held{}
	for id, lease := range now {
		if before, ok := s[id]; !ok || before.lease != lease {
			s[id] = sighting{lease, time.Now()}
		} else if time.Since(before.since) > leaseFor {
			dead[id] = lease
		}
	}
	return dead, nil
}

// carry works on a move until it is over, waits, or somebody else has taken it up.
func (m *Mover) carry(one *Move) {
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	j := &journey{Mover: m, Move: one}
	j.beating.Go(func() { j.beat(ctx, cancel) })
	err := j.run(ctx)
	cancel(errEnded)
	j.beating.Wait()
	switch {
	case errors.Is(err, errReplaced) || errors.Is(context.Cause(ctx), errReplaced):
		slog.Info("another mover has taken over", "move", one.ID, "company", one.Company)
		return
	case err != nil && m.ctx.Err() != nil:
		// It ends here; the next mover needn't wait for the lease.
		one.wake = time.Time{}
	case err != nil:
		j.failures++
		slog.Warn("a move doesn't go on; trying again", "move", one.ID, "company", one.Company, "phase", one.Phase, "error", err)
		one.Problem = err.Error()
		one.wake = m.Queue.Now().Add(one.waitAfter())
		one.Retries++
	}
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), leaseFor)
	defer stop()
	if err := m.Queue.save(end, one, 0); err != nil && !errors.Is(err, errReplaced) {
		slog.Warn("how a move stands can't be written; the next mover finds out", "move", one.ID, "error", err)
	}
	m.Wake()
}

var errEnded = errors.New("the work on the move has ended")

// journey is the work of one mover on one move.
type journey struct {
	*Mover
	*Move
	mu       sync.Mutex // guards the move against the beat
	beating  sync.WaitGroup
	failures int

	from, to *side
}

// beat keeps the lease, and hears what an operator has asked for.
func (j *journey) beat(ctx context.Context, replaced context.CancelCauseFunc) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if j.step(ctx, "beat") != nil {
			return
		}
		if err := j.save(ctx); errors.Is(err, errReplaced) {
			replaced(errReplaced)
			return
		}
	}
}

// save writes how the move stands and keeps the lease.
func (j *journey) save(ctx context.Context, events ...Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Queue.save(ctx, j.Move, leaseFor, events...)
}

// overtake has the move come after a turn that a region knows.
func (j *journey) overtake(ctx context.Context, known int64) error {
	j.mu.Lock() // or the beat takes us for replaced
	defer j.mu.Unlock()
	return j.Queue.overtake(ctx, j.Move, known)
}

// note changes what is known of the move.
func (j *journey) note(f func(*Move)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j.Move)
}

// enter begins a phase.
func (j *journey) enter(ctx context.Context, p Phase, format string, args ...any) error {
	j.begin(p)
	return j.save(ctx, j.event(format, args...))
}

// begin notes that a phase begins.
func (j *journey) begin(p Phase) {
	j.note(func(m *Move) { m.Phase, m.Problem, m.Retries = p, "", 0 })
}

// event is one of the phase in which the move is.
func (j *journey) event(format string, args ...any) Event {
	return Event{At: j.Queue.Now(), Phase: j.Phase, Note: fmt.Sprintf(format, args...)}
}

// steered says what an operator has asked for.
func (j *journey) steered() (paused, aborting bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Paused, j.Aborting
}

// leaving says that an operator gives the destination up for lost.
func (j *journey) leaving() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Leaving
}

var errPaused = errors.New("paused")

// errAbort says that the move is to be given up, and why. The reason is that for apps, Failed
// where it is empty.
type errAbort struct {
	why    string
	reason Reason
}

func (e *errAbort) Error() string { return e.why }

// mayGoOn is asked between steps that take long.
func (j *journey) mayGoOn() error {
	switch paused, aborting := j.steered(); {
	case aborting:
		return &errAbort{"asked for by an operator", ByOperator}
	case !j.NotAfter.IsZero() && j.Queue.Now().After(j.NotAfter):
		return &errAbort{"it wasn't ready within its window, which was over at " + j.NotAfter.UTC().Format(time.RFC3339), OutOfWindow}
	case paused:
		return errPaused
	}
	return nil
}

// run does one phase after the other. nil says that the move is over or waits.
func (j *journey) run(ctx context.Context) error {
	if err := j.reach(ctx); err != nil {
		return err
	}
	for {
		var err error
		if !j.Phase.Over() && j.Phase != Committed && j.Phase != Cutting && j.Phase != Aborting {
			err = j.mayGoOn()
		}
		if err == nil {
			err = j.phase(ctx)
		}
		var abort *errAbort
		switch {
		case errors.Is(err, errPaused), errors.Is(err, errWaits):
			return nil
		case errors.As(err, &abort):
			j.note(func(m *Move) { m.Why, m.Reason = abort.why, cmp.Or(abort.reason, Failed) })
			if err := j.enter(ctx, Aborting, "giving up: %s", abort.why); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		if j.Phase == Done || j.Phase == Aborted {
			return nil
		}
	}
}

// errWaits says that there is nothing to do before the time of wake.
var errWaits = errors.New("there is nothing to do yet")

func (j *journey) phase(ctx context.Context) error {
	switch j.Phase {
	case Queued, Copying:
		return j.copy(ctx)
	case Following:
		return j.follow(ctx)
	case Ready:
		return j.ready(ctx)
	case Cutting:
		return j.cut(ctx)
	case Committed:
		return j.complete(ctx)
	case Retained, Purging:
		return j.purge(ctx)
	case Aborting:
		return j.abort(ctx)
	default:
		return fmt.Errorf("a move can't be %q", j.Phase)
	}
}

// directory is that of the move's environment.
func (j *journey) directory() (Directory, error) {
	d, ok := j.Directories[j.Environment]
	if !ok {
		return nil, fmt.Errorf("there is no environment %q any more", j.Environment)
	}
	return d, nil
}

// reach finds the two regions, and comes after all turns that they know.
func (j *journey) reach(ctx context.Context) error {
	d, err := j.directory()
	if err != nil {
		return err
	}
	regions, err := d.Regions(ctx)
	if err != nil {
		return err
	}
	j.from, j.to = j.side(j.From, regions), j.side(j.To, regions)
	switch {
	case j.from.base == "":
		return noAddress(j.From)
	case j.to.base == "" && !j.leaving():
		return noAddress(j.To)
	}
	return nil
}

// side finds a region; it has no address where the region was removed.
func (j *journey) side(code company.Region, regions []company.RegionInfo) *side {
	s := &side{caller: j.caller, region: code, move: j.Move}
	for _, info := range regions {
		if info.Code == code {
			s.base = info.Internal
		}
	}
	return s
}

func noAddress(code company.Region) error {
	return problem.New(problem.RegionUnavailable, "The region %s has no internal address by which companies can move.", code)
}
