package limit

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/directory"
)

// clock is a clock that tests set.
type clock struct{ unix atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.unix.Store(1_800_000_000)
	return c
}

func (c *clock) now() time.Time { return time.Unix(c.unix.Load(), 0) }

// skip goes on by so many seconds.
func (c *clock) skip(seconds int64) { c.unix.Add(seconds) }

// patient is how long tests have questions answered, so that a busy machine decides nothing.
const patient = 30 * time.Second

// town is some gateways on a real server.
type town struct {
	t     *testing.T
	clock *clock
	url   string
	all   Limits
}

func newTown(t *testing.T, all Limits) *town {
	t.Helper()
	s, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", Secret: "secret"})
	must(t, err)
	t.Cleanup(s.Close)
	return &town{t, newClock(), "nats://" + s.Addr(), all}
}

// gateway is one of a town.
type gateway struct {
	*Limiter
	table *Table
	conn  *nats.Conn
	once  sync.Once
}

// open starts a gateway whose way to the server is url, and file its copy.
func (w *town) open(url, file string) *gateway {
	w.t.Helper()
	conn, err := directory.Connect([]string{url}, "secret", "test")
	must(w.t, err)
	g := &gateway{conn: conn, table: Follow(conn, "test", file, w.all)}
	g.Limiter = newLimiter(Options{Conn: conn, Environment: "test", Table: g.table, Now: w.clock.now})
	g.answerWithin = patient
	must(w.t, g.start())
	w.t.Cleanup(g.close)
	return g
}

func (g *gateway) close() {
	g.once.Do(func() {
		if err := g.Close(); err != nil {
			panic(err)
		}
		if err := g.table.Close(); err != nil {
			panic(err)
		}
		g.conn.Close()
	})
}

// gateways starts n gateways that know one another.
func (w *town) gateways(n int) []*gateway {
	w.t.Helper()
	all := make([]*gateway, n)
	for i := range all {
		all[i] = w.open(w.url, filepath.Join(w.t.TempDir(), "limits"))
	}
	for _, g := range all {
		g.knows(w.t, n-1)
	}
	return all
}

// knows waits until the gateway hears so many others.
func (g *gateway) knows(t *testing.T, others int) {
	t.Helper()
	eventually(t, fmt.Sprintf("a gateway hears %d others", others), func() bool {
		k, m := g.known()
		return m == hearing && k.live() == others
	})
}

// burst makes so many calls at each gateway, all at the same time, and answers how many
// were let through.
func burst(ctx context.Context, client string, gateways []*gateway, calls ...int) int64 {
	var passed atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for i, g := range gateways {
		const callers = 16
		var left atomic.Int64
		left.Store(int64(calls[i]))
		for range callers {
			all.Go(func() {
				<-start
				for left.Add(-1) >= 0 {
					if !g.Take(ctx, client).Refused {
						passed.Add(1)
					}
				}
			})
		}
	}
	close(start)
	all.Wait()
	return passed.Load()
}

// exact wants as many calls as the limit, give or take 5 %.
func exact(t *testing.T, what string, passed, limit int64) {
	t.Helper()
	if 100*passed < 95*limit || 100*passed > 105*limit {
		t.Errorf("%s: %d calls were let through, of %d that may be", what, passed, limit)
	}
}

// "exact within 5 % over several gateways", wherever the calls come in, all at once.
func TestExactOverSeveralGateways(t *testing.T) {
	for name, calls := range map[string][]int{
		"one gateway gets all":    {2000, 0, 0, 0},
		"all get the same":        {500, 500, 500, 500},
		"skewed":                  {2000, 100, 20, 5},
		"a few here, many there":  {10, 10, 10, 3000},
		"three gateways, skewed":  {1500, 300, 40},
		"one gateway on its own":  {700},
		"as many as may be":       {60, 25, 10, 5},
		"eight gateways, skewed":  {1000, 500, 250, 120, 60, 30, 15, 8},
		"many gateways, few each": {30, 30, 30, 30, 30, 30},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t, Limits{Hour: 500, Spike: 100})
			gateways := w.gateways(len(calls))
			hour := int64(0)
			for round := range 4 { // of 10 s each
				n := burst(t.Context(), "app", gateways, calls...)
				exact(t, fmt.Sprintf("spike %d", round), n, 100)
				hour += n
				w.clock.skip(10)
			}
			for range 12 {
				hour += burst(t.Context(), "app", gateways, calls...)
				w.clock.skip(10)
			}
			exact(t, "hour", hour, 500)
			w.clock.skip(3600)
			exact(t, "the next hour's first spike", burst(t.Context(), "app", gateways, calls...), 100)
		})
	}
}

// Calls that come one after the other, here and there, all get through until the limit.
func TestNothingIsRefusedTooEarly(t *testing.T) {
	w := newTown(t, Limits{Spike: 100})
	gateways := w.gateways(4)
	passed := int64(0)
	for i := range 300 {
		// Calls move from gateway to gateway: shares must follow them.
		if !gateways[(i/25)%4].Take(t.Context(), "app").Refused {
			passed++
		} else if passed < 95 {
			t.Fatalf("call %d was refused after %d", i, passed)
		}
	}
	exact(t, "all", passed, 100)
}

// A gateway that comes in mid-window, in place of one that has left, counts on.
func TestRestartInMidWindow(t *testing.T) {
	w := newTown(t, Limits{Hour: 100})
	gateways := w.gateways(3)
	passed := burst(t.Context(), "app", gateways, 40, 10, 10)
	gateways[0].close()
	for _, g := range gateways[1:] {
		g.knows(t, 1)
	}
	next := w.open(w.url, "")
	all := []*gateway{gateways[1], gateways[2], next}
	for _, g := range all {
		g.knows(t, 2)
	}
	eventually(t, "the new gateway knows what was counted", func() bool {
		a := next.lock("app")
		defer a.mu.Unlock()
		n, _ := hourly.at(w.clock.unix.Load(), a.shift)
		return a.used(hourly, n) == passed
	})
	passed += burst(t.Context(), "app", all, 10, 10, 300)
	exact(t, "with a restart", passed, 100)
}

// "still sane when the gateways can't talk to each other": each has its part, as long as
// that lasts, and as many as before once they hear one another again.
func TestCutOff(t *testing.T) {
	w := newTown(t, Limits{Spike: 100})
	relay := newRelay(t, w.url[len("nats://"):])
	files := make([]string, 4)
	gateways := make([]*gateway, 4)
	for i := range gateways {
		files[i] = filepath.Join(t.TempDir(), "limits")
		gateways[i] = w.open("nats://"+relay.address, files[i])
	}
	for _, g := range gateways {
		g.knows(t, 3)
	}
	exact(t, "before", burst(t.Context(), "app", gateways, 300, 10, 10, 10), 100)
	relay.cut()
	for _, g := range gateways {
		eventually(t, "the gateway notices that it is cut off", func() bool { return mode(g.mode.Load()) == cutOff })
	}
	for range 2 {
		w.clock.skip(10)
		for _, g := range gateways {
			if n := burst(t.Context(), "app", []*gateway{g}, 300); n != 25 {
				t.Errorf("a gateway that is cut off let %d calls through, of 25 that are its part", n)
			}
		}
	}
	v := gateways[0].Take(t.Context(), "app")
	if !v.Refused || v.Remaining != 0 || v.RetryAfter < time.Second {
		t.Errorf("refused when cut off: %+v", v)
	}
	relay.mend()
	for _, g := range gateways {
		g.knows(t, 3)
	}
	w.clock.skip(10)
	exact(t, "after", burst(t.Context(), "app", gateways, 300, 10, 10, 10), 100)
	// One that starts in that state knows from its copy how many there were.
	relay.cut()
	gateways[3].close()
	gateways[3] = w.open("nats://"+relay.address, files[3])
	w.clock.skip(10)
	if n := burst(t.Context(), "app", gateways[3:], 300); n != 25 {
		t.Errorf("a gateway that started when cut off let %d calls through", n)
	}
}

// A gateway that falls silent may be alive and counting: its part is left to it.
func TestSilentGatewayKeepsItsPart(t *testing.T) {
	w := newTown(t, Limits{Spike: 100})
	gateways := w.gateways(4)
	gateways[3].conn.Close() // without a word
	for _, g := range gateways[:3] {
		g.knows(t, 2)
	}
	eventually(t, "it notices", func() bool { return mode(gateways[3].mode.Load()) == cutOff })
	exact(t, "those that hear one another", burst(t.Context(), "app", gateways[:3], 300, 50, 5), 75)
	exact(t, "the silent one", burst(t.Context(), "app", gateways[3:], 300), 25)
}

// The moment in which the way to the others is lost, and nobody has noticed yet, is like those
// that follow.
func TestAskingInVain(t *testing.T) {
	w := newTown(t, Limits{Spike: 100})
	gateways := w.gateways(2)
	gateways[0].conn.Close()
	for _, client := range []string{"app", "another", "a third"} {
		if n := burst(t.Context(), client, gateways[:1], 300); n != 50 {
			t.Errorf("%d calls were let through, of 50 that are its part", n)
		}
	}
}

// A gateway whose clock is ahead is in the next window already; what it has counted in the one
// that others are still in stays counted.
func TestClocksDiffer(t *testing.T) {
	w := newTown(t, Limits{Spike: 100})
	_, reset := spike.at(w.clock.unix.Load(), shiftOf("app"))
	w.clock.unix.Store(reset)
	fast := *w
	fast.clock = newClock()
	fast.clock.unix.Store(reset + 1)
	gateways := []*gateway{w.open(w.url, ""), fast.open(w.url, "")}
	for _, g := range gateways {
		g.knows(t, 1)
	}
	exact(t, "one window", burst(t.Context(), "app", gateways, 100, 300), 100)
	w.clock.skip(9)
	fast.clock.skip(9)
	exact(t, "the next window", burst(t.Context(), "app", gateways[1:], 300), 100)
	if n := burst(t.Context(), "app", gateways[:1], 300); n > 5 {
		t.Errorf("%d more calls were let through in the window before", n)
	}
}

// Below one call for each gateway, each still has one.
func TestNeverNothing(t *testing.T) {
	w := newTown(t, Limits{Spike: 2})
	gateways := w.gateways(4)
	if n := burst(t.Context(), "app", gateways, 20, 20, 20, 20); n != 2 {
		t.Errorf("%d calls were let through, of 2", n)
	}
	gateways[0].conn.Close()
	eventually(t, "it notices", func() bool { return mode(gateways[0].mode.Load()) == cutOff })
	w.clock.skip(10)
	if n := burst(t.Context(), "app", gateways[:1], 20); n != 1 {
		t.Errorf("a gateway that is cut off let %d calls through", n)
	}
}

// relay is the way to a server, which can be cut.
type relay struct {
	address, to string
	mu          sync.Mutex
	broken      bool
	open        map[net.Conn]struct{}
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{address: l.Addr().String(), to: to, open: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.carry(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.cut()
		running.Wait()
	})
	return r
}

func (r *relay) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.broken {
		r.mu.Unlock()
		return
	}
	r.open[in], r.open[out] = struct{}{}, struct{}{}
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { copyAll(in, out) })
	copyAll(out, in)
	back.Wait()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
	for c := range r.open {
		_ = c.Close()
	}
	clear(r.open)
}

func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = false
}

func copyAll(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit, tick := time.NewTimer(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("in 30 s not: %s", what)
		case <-tick.C:
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
