package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
	"mpr/problem"
	"mpr/test/await"
)

func TestAnEvent(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, nil)
	s := w.start()
	at := time.Date(2026, time.December, 1, 3, 0, 0, 0, time.UTC)
	m := w.schedule(func(r *move.Request) { r.NotBefore, r.NotAfter = at, at.Add(2*time.Hour) })
	got := a.wait(1)[0]
	if !verify(t, got, secretOf(t, 7, 1)) || verify(t, got, secretOf(t, 7, 2)) || verify(t, got, secretOf(t, 8, 1)) {
		t.Errorf("the signature of %v", got)
	}
	stamp, err := strconv.ParseInt(got.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(stamp, 0)).Abs() > time.Minute {
		t.Errorf("sent at %d %v", stamp, err)
	}
	var said struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	must(t, json.Unmarshal([]byte(got.body), &said))
	want := map[string]any{
		"company_id": 1.0, "move_id": m.ID, "sequence": 4.0, "from": "US02", "to": "EU01",
		"not_before": "2026-12-01T03:00:00Z", "not_after": "2026-12-01T05:00:00Z",
	}
	if said.Type != "company.move.scheduled" || time.Since(said.Timestamp).Abs() > time.Minute || fmt.Sprint(said.Data) != fmt.Sprint(want) {
		t.Errorf("said %s", got.body)
	}
	d := w.deliveries(s, 7, 1, Delivered)[0]
	if d.Event != got.id() || d.Attempts != 1 || d.Status != 200 || d.Company != 1 || d.Move != m.ID || d.Type != said.Type || !d.Next.IsZero() || d.Problem != "" {
		t.Errorf("listed as %+v", d)
	}
	if !w.heard(m) {
		t.Error("the move doesn't know that each app was tried")
	}
}

// Nobody has a webhook: nothing is kept, and nothing is waited for.
func TestNobodyHears(t *testing.T) {
	w := newWorld(t)
	woken := make(chan struct{}, 8)
	w.start(func(o *Options) { o.WakeMover = func() { woken <- struct{}{} } })
	m := w.schedule()
	await.That(t, "that the notice is passed on", func() bool { return w.heard(m) })
	<-woken
	var events int
	must(t, w.queue.DB.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM webhook_events`).Scan(&events))
	if events != 0 {
		t.Errorf("%d events are kept", events)
	}
}

// Whatever an app answers, it hears again until it has taken the event, under the same id and
// with the same body, each time signed anew.
func TestAgainUntilItIsTaken(t *testing.T) {
	w := newWorld(t)
	bad := []func(http.ResponseWriter){
		func(rw http.ResponseWriter) { rw.WriteHeader(500) },
		func(rw http.ResponseWriter) { rw.WriteHeader(404) },
		func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		func(rw http.ResponseWriter) { rw.Header().Set("Location", "/elsewhere"); rw.WriteHeader(302) },
		func(rw http.ResponseWriter) { rw.Header().Set("X", strings.Repeat("x", 2*maxAnswer)) },
		func(rw http.ResponseWriter) { rw.Header().Set("Content-Length", "10"); _, _ = rw.Write([]byte("half")) },
	}
	a := w.app(7, func(n int, rw http.ResponseWriter) {
		if n < len(bad) {
			bad[n](rw)
		}
	})
	s := w.start()
	m := w.schedule()
	for i := range bad {
		a.wait(i + 1)
		await.That(t, "that the failure is noted", func() bool {
			list, err := s.Deliveries(t.Context(), environment, 7, 1)
			must(t, err)
			return list[0].Attempts == int64(i+1)
		})
		d := w.deliveries(s, 7, 1, Waiting)[0]
		if wait := d.Next.Sub(d.Last); wait < waits[i]*9/10 || wait > waits[i]*11/10 || d.Problem == "" {
			t.Errorf("after attempt %d: %+v", i+1, d)
		}
		if !w.heard(m) {
			t.Error("the move waits although each app was tried")
		}
		w.pass(s, waits[i]*11/10+time.Second)
	}
	all := a.wait(len(bad) + 1)
	if d := w.deliveries(s, 7, 1, Delivered)[0]; d.Attempts != int64(len(bad)+1) || d.Problem != "" {
		t.Errorf("at last %+v", d)
	}
	stamps := map[string]bool{}
	for _, r := range all {
		stamps[r.Get("webhook-timestamp")] = true
		if r.id() != all[0].id() || r.body != all[0].body || !verify(t, r, secretOf(t, 7, 1)) {
			t.Errorf("%v differs from %v", r, all[0])
		}
	}
	if len(stamps) != len(all) {
		t.Errorf("signed at %v", stamps)
	}
}

func TestGivenUp(t *testing.T) {
	w := newWorld(t)
	var status atomic.Int32
	status.Store(503)
	a := w.app(7, func(_ int, rw http.ResponseWriter) { rw.WriteHeader(int(status.Load())) })
	s := w.start()
	w.schedule()
	total := time.Duration(0)
	for i, wait := range waits {
		a.wait(i + 1)
		await.That(t, "that the failure is noted", func() bool {
			list, err := s.Deliveries(t.Context(), environment, 7, 1)
			must(t, err)
			return list[0].Attempts == int64(i+1) && list[0].State == Waiting
		})
		total += wait
		w.pass(s, wait*11/10+time.Second)
	}
	d := w.deliveries(s, 7, 1, GivenUp)[0]
	if d.Attempts != int64(len(waits)+1) || d.Status != 503 || !strings.Contains(d.Problem, "503") || !d.Next.IsZero() {
		t.Errorf("given up as %+v", d)
	}
	if total < 46*time.Hour || total > 50*time.Hour {
		t.Errorf("given up after %s", total)
	}
	if err := s.Redeliver(t.Context(), environment, 7, "nothing"); !errors.Is(err, problem.New(problem.NotFound, "")) {
		t.Errorf("an event that isn't there: %v", err)
	}
	if err := s.Redeliver(t.Context(), environment, 8, d.Event); !errors.Is(err, problem.New(problem.NotFound, "")) {
		t.Errorf("an event of another app: %v", err)
	}
	status.Store(200)
	for range 2 { // also what was taken is sent again where somebody asks for it
		before := len(a.got())
		must(t, s.Redeliver(t.Context(), environment, 7, d.Event))
		if again := a.wait(before + 1)[before]; again.id() != d.Event {
			t.Errorf("sent again as %v", again)
		}
		w.deliveries(s, 7, 1, Delivered)
	}
	status.Store(410)
	w.schedule()
	if list := w.deliveries(s, 7, 1, GivenUp); list[0].Attempts != 1 {
		t.Errorf("410 Gone: %+v", list[0])
	}
}

var errDied = errors.New("the process died here")

// A process that dies between the move's change and the deliveries, before an attempt, or after
// the app has answered and before that is noted: the next one goes on.
func TestAProcessDies(t *testing.T) {
	for _, at := range []string{"pass on", "claimed", "answered"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			a := w.app(7, func(_ int, rw http.ResponseWriter) { _, _ = rw.Write([]byte(`{"delay_seconds":60}`)) })
			died := make(chan struct{}, 100)
			first := w.start(func(o *Options) {
				o.Step = func(_ context.Context, name string) error {
					if name == at {
						died <- struct{}{}
						return errDied
					}
					return nil
				}
			})
			m := w.schedule()
			<-died
			must(t, first.Close())
			if w.heard(m) {
				t.Error("the move takes it for heard")
			}
			next := w.start(func(o *Options) { o.Now = func() time.Time { return w.clock.now().Add(3 * leaseFor / 2) } })
			d := w.deliveries(next, 7, 1, Delivered)[0]
			all, want := a.got(), 1
			if at == "answered" {
				want = 2
			}
			if len(all) != want {
				t.Errorf("heard %d times: %v", len(all), all)
			}
			for _, r := range all {
				if r.id() != d.Event || !verify(t, r, secretOf(t, 7, 1)) {
					t.Errorf("heard %v of %+v", r, d)
				}
			}
			if !w.heard(m) {
				t.Error("the move doesn't know that it was heard")
			}
			if got, err := w.queue.Get(t.Context(), environment, m.ID); err != nil || len(got.Delays) != 1 || got.Delays[0].Seconds != 60 {
				t.Errorf("delayed by %+v %v", got, err)
			}
		})
	}
}

// A mover's change and its notice are one: where the one isn't written the other isn't either.
func TestOneNoticeForEachKind(t *testing.T) {
	w := newWorld(t)
	m := w.schedule()
	if _, err := w.queue.Add(t.Context(), environment, "US02", move.Request{Company: m.Company, To: "EU01", By: "another"}); !errors.Is(err, problem.New(problem.Conflict, "")) {
		t.Errorf("a company that moves: %v", err)
	}
	list, err := w.queue.Untold(t.Context(), 10, nil)
	if err != nil || len(list) != 1 || list[0].Move != m.ID || list[0].Kind != move.Scheduled {
		t.Errorf("to be told: %+v %v", list, err)
	}
}

// Several processes share the work: each event is sent once where nothing fails, and the
// services that are closed leave nothing undone.
func TestSideBySide(t *testing.T) {
	w := newWorld(t)
	apps := []*receiver{w.app(1, nil), w.app(2, nil), w.app(3, nil)}
	services := []*Service{w.start(), w.start(), w.start()}
	const moves = 12
	for i := range moves {
		w.schedule()
		if i == moves/2 {
			must(t, services[2].Close())
		}
	}
	for i, a := range apps {
		w.deliveries(services[0], int64(i+1), moves, Delivered)
		seen := map[string]int{}
		for _, r := range a.got() {
			seen[r.id()]++
		}
		if len(seen) != moves {
			t.Errorf("app %d has heard of %d events", i+1, len(seen))
		}
	}
}

func TestRotation(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, nil)
	w.give(7, func(h *Hook) { h.Generation, h.PreviousUntil = 2, w.clock.now().Add(time.Hour) })
	s := w.start()
	w.schedule()
	got := a.wait(1)[0]
	if !verify(t, got, secretOf(t, 7, 1)) || !verify(t, got, secretOf(t, 7, 2)) || verify(t, got, secretOf(t, 7, 3)) || strings.Count(got.Get("webhook-signature"), " ") != 1 {
		t.Errorf("while both secrets hold: %v", got)
	}
	w.clock.advance(2 * time.Hour)
	w.schedule()
	got = a.wait(2)[1]
	if verify(t, got, secretOf(t, 7, 1)) || !verify(t, got, secretOf(t, 7, 2)) {
		t.Errorf("after the overlap: %v", got)
	}
	result, err := s.Test(t.Context(), environment, 7)
	must(t, err)
	got = a.wait(3)[2]
	if result.Status != 200 || result.Problem != "" || got.id() != result.Event || !verify(t, got, secretOf(t, 7, 2)) || !strings.Contains(got.body, `"type":"webhook.test"`) {
		t.Errorf("a test: %+v, %v", result, got)
	}
	seen := []string{}
	for generation := range int64(4) {
		seen = append(seen, secretOf(t, 7, generation), secretOf(t, 8, generation))
	}
	other, err := SecretOf(internalSecret, "monthly sandbox", "client-7", 1)
	must(t, err)
	seen = append(seen, other)
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 9 {
		t.Errorf("secrets come twice: %v", seen)
	}
}

// An app that doesn't answer holds two attempts, and the others hear at once.
func TestASlowApp(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	var open, most atomic.Int32
	slow := w.app(1, func(int, http.ResponseWriter) {
		most.Store(max(most.Load(), open.Add(1)))
		<-release
		open.Add(-1)
	})
	fast := w.app(2, nil)
	s, other := w.start(), w.start()
	const moves = 20
	for range moves {
		w.schedule()
	}
	w.deliveries(s, 2, moves, Delivered)
	if n := len(slow.got()); n > 2*perApp || n < 1 {
		t.Errorf("the slow app was called %d times", n)
	}
	if n := len(fast.got()); n != moves {
		t.Errorf("the fast app was called %d times", n)
	}
	close(release)
	other.Wake()
	w.deliveries(s, 1, moves, Delivered)
	// Two processes may look at the same moment, and each of them then takes up one more.
	if most.Load() > 2*perApp {
		t.Errorf("%d calls of the slow app at the same time", most.Load())
	}
}

func TestWithoutAWebhookAnyMore(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, func(_ int, rw http.ResponseWriter) { rw.WriteHeader(500) })
	s := w.start()
	w.schedule()
	await.That(t, "an attempt", func() bool {
		list, err := s.Deliveries(t.Context(), environment, 7, 1)
		must(t, err)
		return len(list) == 1 && list[0].Attempts == 1
	})
	w.mu.Lock()
	delete(w.hooks, 7)
	w.mu.Unlock()
	w.pass(s, time.Minute)
	if d := w.deliveries(s, 7, 1, GivenUp)[0]; d.Attempts != 1 || d.Problem != "the webhook was removed" || len(a.got()) != 1 {
		t.Errorf("given up as %+v", d)
	}
}

// A login service that is away is no fault of the app's.
func TestTheLoginServiceIsAway(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, nil)
	var once sync.Once
	s := w.start(func(o *Options) {
		o.Step = func(_ context.Context, name string) error {
			if name == "claimed" {
				once.Do(func() { w.mu.Lock(); w.away = true; w.mu.Unlock() })
			}
			return nil
		}
	})
	w.schedule()
	await.That(t, "that the delivery waits for the login service", func() bool {
		list, err := s.Deliveries(t.Context(), environment, 7, 1)
		must(t, err)
		return len(list) == 1 && list[0].Next.After(w.clock.now().Add(askAgain/2))
	})
	m := w.schedule() // which can't be passed on
	w.mu.Lock()
	w.away = false
	w.mu.Unlock()
	w.pass(s, askAgain+time.Second)
	for _, d := range w.deliveries(s, 7, 2, Delivered) {
		if d.Attempts != 1 {
			t.Errorf("delivered as %+v", d)
		}
	}
	if len(a.got()) != 2 || !w.heard(m) {
		t.Errorf("heard %v", a.got())
	}
}

// However many notices wait for a login service that is away, those of other environments don't.
func TestEnvironmentsDoNotWaitForOneAnother(t *testing.T) {
	w := newWorld(t)
	a := w.app(7, nil)
	s := w.start(func(o *Options) { o.Identity["monthly"] = "http://127.0.0.1:1" })
	for i := range company.ID(noticesAtOnce + 20) {
		_, err := w.queue.Add(t.Context(), "monthly", "US02", move.Request{Company: i + 1, To: "EU01", By: "the test"})
		must(t, err)
	}
	m := w.schedule()
	w.deliveries(s, 7, 1, Delivered)
	if len(a.got()) != 1 || !w.heard(m) {
		t.Errorf("heard %v", a.got())
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	fine := w.app(1, nil)
	failing := w.app(2, func(_ int, rw http.ResponseWriter) { rw.WriteHeader(500) })
	s := w.start()
	w.schedule()
	fine.wait(1)
	failing.wait(1)
	w.deliveries(s, 1, 1, Delivered)
	// An attempt that finds no webhook any more would end the delivery.
	await.That(t, "the answer of app 2 is noted", func() bool { return w.deliveries(s, 2, 1, Waiting)[0].Status == 500 })
	w.mu.Lock()
	delete(w.hooks, 2)
	w.mu.Unlock()
	w.schedule()
	w.deliveries(s, 1, 2, Delivered)
	old := w.deliveries(s, 2, 1, Waiting)
	w.clock.advance(31 * 24 * time.Hour)
	s.sweep()
	list, err := s.Deliveries(t.Context(), environment, 1, 10)
	must(t, err)
	if len(list) != 1 || list[0].Event != old[0].Event {
		t.Errorf("what still waits isn't deleted, and no more is kept: %+v", list)
	}
	var notices int
	must(t, w.queue.DB.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM move_notices`).Scan(&notices))
	if notices != 2 {
		t.Errorf("%d notices of moves that go on are left", notices)
	}
}
