package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/directory"
	"mpr/problem"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// world is a directory server, and a clock that tests move.
type world struct {
	t      *testing.T
	nc     *nats.Conn
	record *directory.Record
	now    atomic.Int64
	begun  atomic.Int64
	// hold keeps refreshes from going on, until it is closed; then they fail.
	hold chan struct{}
}

var errNoRegions = errors.New("this world has no regions")

func newWorld(t *testing.T, now string) *world {
	t.Helper()
	server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	check(t, err)
	t.Cleanup(server.Close)
	w := &world{t: t, hold: make(chan struct{})}
	w.nc, err = server.Connect("test")
	check(t, err)
	t.Cleanup(w.nc.Close)
	w.record, err = directory.OpenRecord(t.Context(), w.nc, "generations", "sandbox", 1)
	check(t, err)
	w.now.Store(at(now).UnixNano())
	return w
}

func (w *world) clock() time.Time { return time.Unix(0, w.now.Load()).UTC() }

// refresher is that of a further process. What it begins fails when the world lets it.
func (w *world) refresher() *Refresher {
	w.t.Helper()
	r, err := New(w.t.Context(), Options{
		To: Environment{Name: "the sandbox"}, Record: w.record, Secret: "secret", Now: w.clock,
		Begin: func(ctx context.Context, _, _ int) (Directory, error) {
			w.begun.Add(1)
			select {
			case <-w.hold:
				return nil, errNoRegions
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	check(w.t, err)
	w.t.Cleanup(func() { check(w.t, r.Close()) })
	return r
}

func (w *world) state(r *Refresher) State {
	w.t.Helper()
	s, _, err := r.Show(w.t.Context())
	check(w.t, err)
	return s
}

func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline, tick := time.NewTimer(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			w.t.Fatalf("in 20 s not: %s", what)
		case <-tick.C:
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestANewEnvironmentIsNotRefreshedAtOnce(t *testing.T) {
	w := newWorld(t, "2026-11-23 12:00")
	r := w.refresher()
	s, next, err := r.Show(t.Context())
	check(t, err)
	if s.Highest != 0 || s.Run != nil || !s.Since.Equal(w.clock()) || !next.Equal(at("2026-12-01 00:00")) {
		t.Errorf("the state is %+v, and next comes %s", s, next)
	}
}

// "Exactly one run per month although several control processes run", which is made up
// for at start.
func TestOfManyProcessesOneKeepsTheSchedule(t *testing.T) {
	w := newWorld(t, "2026-11-23 12:00")
	first := w.refresher()
	w.now.Store(at("2026-12-04 12:00").UnixNano())
	var starting sync.WaitGroup
	for range 8 {
		starting.Go(func() { w.refresher() })
	}
	starting.Wait()
	w.until("a refresh has begun", func() bool { return w.begun.Load() > 0 })
	for range 8 {
		check(t, first.keepSchedule(t.Context()))
	}
	if s := w.state(first); s.Highest != 1 || s.Building != 1 || w.begun.Load() != 1 {
		t.Errorf("%d have begun: %+v", w.begun.Load(), s)
	}
	if _, err := first.Start(t.Context()); !errors.Is(err, problem.New(problem.Conflict, "")) {
		t.Errorf("another one was begun by hand: %v", err)
	}
	close(w.hold)
	w.until("it has failed", func() bool { return w.state(first).Building == 0 })
	if s := w.state(first); s.Serving != 0 || s.Last != nil || !strings.Contains(s.Run.Error, errNoRegions.Error()) {
		t.Errorf("after a failure: %+v, %+v", s, s.Run)
	}
	check(t, first.keepSchedule(t.Context()))
	if w.begun.Load() != 1 {
		t.Error("the schedule repeated a failure at once")
	}
}

// Whatever takes a refresh for dead begins another generation; the one that wasn't dead
// changes nothing from then on.
func TestARefreshThatIsTakenForDead(t *testing.T) {
	w := newWorld(t, "2026-11-23 12:00")
	slow, other := w.refresher(), w.refresher()
	one, err := slow.begin(t.Context(), func(*State) error { return nil })
	check(t, err)
	if _, err := other.begin(t.Context(), func(*State) error { return nil }); !errors.Is(err, problem.New(problem.Conflict, "")) {
		t.Fatalf("a second one was begun at once: %v", err)
	}
	w.now.Add(int64(aliveFor))
	two, err := other.begin(t.Context(), func(*State) error { return nil })
	check(t, err)
	if one.Generation != 1 || two.Generation != 2 {
		t.Fatalf("generations %d and %d", one.Generation, two.Generation)
	}
	late := slow.newBuild(one.Generation)
	if err := late.serve(t.Context()); !errors.Is(err, errOvertaken) {
		t.Errorf("the late one would serve: %v", err)
	}
	check(t, late.fail(t.Context(), errNoRegions))
	if s := w.state(other); s.Serving != 0 || s.Building != 2 || s.Run.Error != "" {
		t.Errorf("the late one has changed the state: %+v", s)
	}
	done := other.newBuild(two.Generation)
	check(t, done.serve(t.Context()))
	if s := w.state(other); s.Serving != 2 || s.Building != 0 || s.Last == nil || s.Last.Generation != 2 {
		t.Errorf("after the switch: %+v", s)
	}
}

// A refresh notices within seconds that it was overtaken, and gives up.
func TestAnOvertakenRefreshGivesUp(t *testing.T) {
	w := newWorld(t, "2026-11-23 12:00")
	slow, other := w.refresher(), w.refresher()
	one, err := slow.begin(t.Context(), func(*State) error { return nil })
	check(t, err)
	ended := make(chan error, 1)
	go func() { ended <- slow.run(t.Context(), one) }()
	w.until("it has begun", func() bool { return w.begun.Load() == 1 })
	w.until("another one takes it for dead", func() bool {
		w.now.Add(int64(aliveFor))
		_, err := other.begin(t.Context(), func(*State) error { return nil })
		return err == nil
	})
	if err := <-ended; !errors.Is(err, errOvertaken) {
		t.Errorf("it ended with %v", err)
	}
}
