package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/move"
	"mpr/problem"
	"mpr/store"
	"mpr/test/await"
	"mpr/test/engine"
)

const (
	internalSecret = "the-internal-secret"
	environment    = "production"
)

// clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is a queue of moves in a database, and the part of a login service that knows webhooks.
// stack/webhooks_test.go has the real one.
type world struct {
	t     *testing.T
	clock *clock
	queue *move.Queue
	login string

	mu    sync.Mutex
	hooks map[int64]Hook
	away  bool
	next  company.ID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, clock: &clock{}, hooks: map[int64]Hook{}, next: 1}
	w.queue = &move.Queue{DB: openStore(t), Now: w.clock.now}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /internal/companies/{company}/webhooks", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func() (any, bool) {
			all := []Hook{}
			for _, h := range w.hooks {
				all = append(all, h)
			}
			return map[string]any{"webhooks": all}, true
		})
	})
	mux.HandleFunc("GET /internal/apps/{app}/webhook", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func() (any, bool) {
			id, err := strconv.ParseInt(r.PathValue("app"), 10, 64)
			h, ok := w.hooks[id]
			return h, ok && err == nil
		})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w.login = server.URL
	return w
}

func (w *world) answer(rw http.ResponseWriter, r *http.Request, what func() (any, bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := what()
	switch {
	case w.away:
		problem.Write(rw, r, problem.New(problem.NotReady, "It is away."))
	case !ok:
		problem.Write(rw, r, problem.New(problem.NotFound, "There is none."))
	default:
		if err := json.NewEncoder(rw).Encode(v); err != nil {
			w.t.Error(err)
		}
	}
}

// openStore opens a database of the test's own.
func openStore(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), engine.Store(t), move.Migrations())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	must(t, db.Also(t.Context(), "webhooks_version", Migrations()))
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a service, as one of several control processes does.
func (w *world) start(change ...func(*Options)) *Service {
	w.t.Helper()
	o := Options{
		Queue: w.queue, Identity: map[string]string{environment: w.login}, Secret: internalSecret, AllowPrivate: true,
		LongestDelay: time.Hour, WakeMover: func() {}, Now: w.clock.now,
	}
	for _, f := range change {
		f(&o)
	}
	s := New(o)
	w.t.Cleanup(func() { must(w.t, s.Close()) })
	return s
}

// pass lets time pass, and has the service look.
func (w *world) pass(s *Service, d time.Duration) {
	w.clock.advance(d)
	s.Wake()
}

// give gives an app a webhook.
func (w *world) give(app int64, change func(*Hook)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hooks[app]
	if h.App == 0 {
		h = Hook{App: app, ClientID: fmt.Sprintf("client-%d", app), Name: fmt.Sprintf("App %d", app), Generation: 1}
	}
	change(&h)
	w.hooks[app] = h
}

// schedule queues a move of a further company, which is an event.
func (w *world) schedule(change ...func(*move.Request)) *move.Move {
	w.t.Helper()
	r := move.Request{Company: w.next, To: "EU01", By: "the test"}
	w.next++
	for _, f := range change {
		f(&r)
	}
	m, err := w.queue.Add(w.t.Context(), environment, "US02", r)
	must(w.t, err)
	return m
}

// received is a request that has come.
type received struct {
	http.Header
	body string
	at   time.Time
}

func (r received) id() string { return r.Get("webhook-id") }

// receiver is an app's own server.
type receiver struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	all    []received
	answer func(n int, w http.ResponseWriter) // n counts from 0
}

// app starts an app that has a webhook.
func (w *world) app(id int64, answer func(n int, rw http.ResponseWriter)) *receiver {
	w.t.Helper()
	a := &receiver{t: w.t, answer: answer}
	server := httptest.NewServer(a)
	w.t.Cleanup(server.Close)
	a.url = server.URL + "/hook?a=1"
	w.give(id, func(h *Hook) { h.URL = a.url })
	return a
}

func (a *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		a.t.Errorf("received %s %v %v", r.Method, r.Header, err)
	}
	a.mu.Lock()
	n := len(a.all)
	a.all = append(a.all, received{r.Header.Clone(), string(body), time.Now()})
	a.mu.Unlock()
	if a.answer != nil {
		a.answer(n, w)
	}
}

func (a *receiver) got() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]received(nil), a.all...)
}

// wait waits until so many requests have come.
func (a *receiver) wait(n int) []received {
	a.t.Helper()
	await.That(a.t, fmt.Sprintf("%d requests", n), func() bool { return len(a.got()) >= n })
	return a.got()
}

// verify is what the Standard Webhooks specification has an app do: nothing of ours is in it.
func verify(t *testing.T, r received, secret string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	must(t, err)
	if len(key) != 32 || !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("the secret %q has %d bytes", secret, len(key))
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Get("webhook-id"), r.Get("webhook-timestamp"), r.body)
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for part := range strings.SplitSeq(r.Get("webhook-signature"), " ") {
		if version, sum, _ := strings.Cut(part, ","); version == "v1" && hmac.Equal([]byte(sum), []byte(want)) {
			return true
		}
	}
	return false
}

func secretOf(t *testing.T, app int64, generation int64) string {
	t.Helper()
	secret, err := SecretOf(internalSecret, environment, fmt.Sprintf("client-%d", app), generation)
	must(t, err)
	return secret
}

// deliveries waits until all of an app's are in a state, and answers them.
func (w *world) deliveries(s *Service, app int64, n int, state State) []Delivery {
	w.t.Helper()
	var list []Delivery
	await.That(w.t, fmt.Sprintf("%d deliveries to app %d that are %s", n, app, state), func() bool {
		var err error
		list, err = s.Deliveries(w.t.Context(), environment, app, 1000)
		must(w.t, err)
		found := 0
		for _, d := range list {
			if d.State == state {
				found++
			}
		}
		return found == n
	})
	return list
}

// heard says whether each app was tried with what a move tells.
func (w *world) heard(m *move.Move) bool {
	w.t.Helper()
	var unheard int
	must(w.t, w.queue.DB.Read().QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM move_notices WHERE move_id = $1 AND heard = 0`, m.ID).Scan(&unheard))
	return unheard == 0
}
