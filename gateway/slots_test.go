package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"mpr/problem"
	"mpr/rules"
	"mpr/test/await"
)

// An app may have what nobody else wants; while half of it is taken, a quarter.
func TestShares(t *testing.T) {
	s := newSlots(16)
	most := func(app string, want int) {
		t.Helper()
		n := 0
		for s.try(app) {
			n++
		}
		if n != want {
			t.Errorf("%q got %d slots, want %d", app, n, want)
		}
	}
	most("one", 8)
	most("two", 4)
	if err := s.take(t.Context(), "two", 0); !errors.Is(err, errShare) {
		t.Error(err)
	}
	most("three", 4)
	if err := s.take(t.Context(), "four", 0); !errors.Is(err, errBusy) {
		t.Error(err)
	}
	// What is given back goes to an app with less than a quarter, whoever waits longer.
	greedy, patient := make(chan error, 1), make(chan error, 1)
	waits := func(app string, to chan error, n int) {
		go func() { to <- s.take(t.Context(), app, time.Minute) }()
		await.That(t, app+" waits", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.waiting) == n
		})
	}
	waits("one", greedy, 1)
	waits("four", patient, 2)
	s.give("one")
	must(t, arrives(t, patient, "a slot"))
	for range 3 {
		s.give("one")
	}
	select {
	case err := <-greedy:
		t.Fatal("it has a quarter and got one more", err)
	default:
	}
	s.give("one")
	must(t, arrives(t, greedy, "a slot"))
	// Calls without an app, of which each may be another's, may have all.
	s = newSlots(16)
	most("", 16)
	for size, want := range map[int]int{1: 1, 2: 1, 3: 2, 512: 256} {
		s = newSlots(size)
		most("one", want)
	}
}

// Those that wait are bounded in the same way, and one that leaves takes nothing with it.
func TestWaitingShares(t *testing.T) {
	s := newSlots(8)
	for _, app := range []string{"one", "two", "three"} {
		for s.try(app) {
		}
	}
	var apps sync.WaitGroup
	ctx, leave := context.WithCancelCause(t.Context())
	refused := make(chan error, 100)
	for range 20 {
		apps.Go(func() { refused <- s.take(ctx, "one", time.Minute) })
	}
	for range 20 - 4 {
		if err := arrives(t, refused, "a refusal"); !errors.Is(err, errBusy) {
			t.Error(err)
		}
	}
	leave(errClientGone)
	apps.Wait()
	for range 4 {
		if err := <-refused; !errors.Is(err, errClientGone) {
			t.Error(err)
		}
	}
	if len(s.waiting) != 0 || s.taken != 8 || s.apps["one"].waiting != 0 {
		t.Errorf("%+v", s.apps)
	}
}

// Whoever comes, waits and leaves at the same time: in the end all slots are there.
func TestSlotsAreNotLost(t *testing.T) {
	s := newSlots(8)
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() {
			app := []string{"", "one", "two", "three"}[i%4]
			for range 500 {
				ctx, leave := context.WithCancel(t.Context())
				go func() {
					if rand.IntN(2) == 0 { //nolint:gosec // a test
						leave()
					}
				}()
				if s.take(ctx, app, time.Duration(rand.Int64N(int64(100*time.Microsecond)))) == nil { //nolint:gosec // a test
					if n := s.inUse(); n < 1 || n > s.size {
						t.Errorf("%d slots are taken", n)
					}
					s.give(app)
				}
				leave()
			}
		})
	}
	clients.Wait()
	if s.taken != 0 || len(s.waiting) != 0 || len(s.apps) != 0 {
		t.Errorf("%d taken, %d wait, %v", s.taken, len(s.waiting), s.apps)
	}
}

// One app uploads, as slowly as it may and by more calls than a region takes: others are served.
// What small bodies it dribbles takes up nothing of the region.
func TestSlowBodiesOfOneApp(t *testing.T) {
	const conns = 8
	g := start(t, handlers{"EU01": echo}, func(o *Options) {
		o.Limits.UpstreamConns, o.Limits.ConnectTimeout = conns, 200*time.Millisecond
	})
	others := g.header(inEU01)
	others.Set("Authorization", "Bearer "+g.signFor("another", rules.UserToken, 0))
	serves := func() {
		t.Helper()
		for range 20 {
			g.send("GET", "/x", others, nil).want(t, 200, "")
			g.send("POST", "/x", others, strings.NewReader("hello")).want(t, 200, "")
		}
	}
	serves()
	slots := (*g.service.regions.groups.Load())["EU01"].slots
	to := "Procore-Company-Id: " + inEU01.String()
	var small []*wire
	for range 4 * conns {
		c := g.dial()
		c.head(g, "POST /small", to, "Content-Length: 2")
		c.write("x")
		small = append(small, c)
	}
	serves()
	await.That(t, "no slot is taken", func() bool { return slots.inUse() == 0 })
	var uploads []*wire
	for range 4 * conns {
		c := g.dial()
		c.head(g, "POST /x", to, "Transfer-Encoding: chunked")
		c.write("1\r\nx\r\n")
		uploads = append(uploads, c)
	}
	await.That(t, "the app has its share", func() bool { return slots.inUse() == conns/2 })
	serves()
	got := g.send("GET", "/x", g.header(inEU01), nil)
	got.want(t, 503, problem.RegionUnavailable)
	if !strings.Contains(got.body, "of this app") || got.Header.Get("Retry-After") == "" {
		t.Error(got.body, got.Header)
	}
	for _, c := range small {
		c.write("x")
	}
	for _, c := range uploads {
		c.Close()
	}
	for _, c := range small {
		if status := c.answer("POST").StatusCode; status != 200 && status != 503 { // it may have come before the others had left
			t.Error(status)
		}
	}
	await.That(t, "all slots are given back", func() bool { return slots.inUse() == 0 })
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
}
