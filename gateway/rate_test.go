package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpr/directory"
	"mpr/ledger"
	"mpr/limit"
)

// limited gives a gate a limiter with these limits for all apps.
func limited(t *testing.T, all limit.Limits) setup {
	return func(o *Options) {
		server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
		must(t, err)
		t.Cleanup(server.Close)
		conn, err := server.Connect("limits")
		must(t, err)
		t.Cleanup(conn.Close)
		table := limit.Follow(conn, "test", "", all)
		closeLater(t, table)
		l, err := limit.New(limit.Options{Conn: conn, Environment: "test", Table: table, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
		must(t, err)
		closeLater(t, l)
		o.Limiter = l
	}
}

// says checks what an answer says of the app's limits.
func (r reply) says(t *testing.T, limit, remaining int) {
	t.Helper()
	got := []string{r.Header.Get("X-Rate-Limit-Limit"), r.Header.Get("X-Rate-Limit-Remaining")}
	if want := []string{strconv.Itoa(limit), strconv.Itoa(remaining)}; !slices.Equal(got, want) {
		t.Errorf("limit and remaining are %q, want %q", got, want)
	}
	reset, err := strconv.ParseInt(r.Header.Get("X-Rate-Limit-Reset"), 10, 64)
	if err != nil || reset <= 1_800_000_000 || reset > 1_800_003_600 {
		t.Errorf("reset is %q", r.Header.Get("X-Rate-Limit-Reset"))
	}
	for _, name := range []string{"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"} {
		if n := len(r.Header.Values(name)); n != 1 {
			t.Errorf("%d values of %s", n, name)
		}
	}
}

// "X-Rate-Limit-* on every response", whoever answers; "429 with Retry-After".
func TestRateLimits(t *testing.T) {
	misdirected := false
	upstream := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Rate-Limit-Limit", "7777") // an upstream with limits of its own
		w.Header().Add("X-Rate-Limit-Remaining", "7776")
		w.Header().Add("X-Rate-Limit-Remaining", "7775")
		w.Header().Set("Trailer", "X-Rate-Limit-Reset")
		if !misdirected {
			misdirected = true
			w.Header().Set("Mpr-Region", "US01")
			w.Header().Set("Mpr-Epoch", "4")
			w.WriteHeader(http.StatusMisdirectedRequest)
			return
		}
		fmt.Fprint(w, "fine")
		w.Header().Set("X-Rate-Limit-Reset", "1")
	}
	counted := counts{}
	g := start(t, handlers{"US01": upstream, "EU01": upstream, "identity": upstream, "login": upstream},
		limited(t, limit.Limits{Hour: 100, Spike: 6}), func(o *Options) { o.Ledger = &counted })

	r := g.send("GET", "/rest/v1.0/projects", g.header(inEU01), nil) // sent twice, counted once
	r.want(t, 200, "")
	r.says(t, 6, 5)
	if r.Trailer.Get("X-Rate-Limit-Reset") != "" {
		t.Error("an upstream's limits come as a trailer")
	}
	r = g.send("GET", "/rest/v1.0/me", g.header(0), nil) // answered by identity
	r.want(t, 200, "")
	r.says(t, 6, 4)
	r = g.send("GET", "/rest/v1.0/projects", g.header(0), nil) // refused by the rules
	r.want(t, 400, "missing_company_header")
	r.says(t, 6, 3)
	r = g.send("GET", "/rest/v1.0/projects", g.header(inDead), nil)
	r.want(t, 503, "region_unavailable")
	r.says(t, 6, 2)
	client, base := g.secure() // HTTP/2
	r = do(t, client, request(t, "GET", base+"/rest/v1.0/projects", g.header(inEU01), nil))
	r.want(t, 200, "")
	r.says(t, 6, 1)
	r = do(t, g.legacy.Client(), request(t, "GET", g.legacy.URL+"/rest/v1.0/projects", g.header(inUS01), nil))
	r.want(t, 200, "")
	r.says(t, 6, 0)
	before := len(counted)
	for range 2 {
		r = do(t, g.legacy.Client(), request(t, "GET", g.legacy.URL+"/rest/v1.0/projects", g.header(0), nil))
		r.want(t, 429, "rate_limited")
		r.says(t, 6, 0)
	}
	var said struct{ Message string }
	must(t, json.Unmarshal([]byte(r.body), &said))
	if !strings.Contains(said.Message, "6 calls that it may make in 10 seconds") || !strings.Contains(said.Message, "Try again in "+r.Header.Get("Retry-After")+" s") {
		t.Error(said.Message)
	}
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s < 1 || s > 10 {
		t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
	}
	if len(counted) != before {
		t.Errorf("the ledger has counted calls that were too many: %+v", counted[before:])
	}
}

// Without a valid token there is no app whose limit it could be, and nothing is counted.
func TestStrangersHaveNoLimits(t *testing.T) {
	g := start(t, handlers{"login": echo, "US01": echo}, limited(t, limit.Limits{Spike: 2}))
	for _, h := range []http.Header{{}, {"Authorization": {"Bearer " + g.user + "x"}}} {
		for range 5 {
			r := g.send("GET", "/rest/v1.0/projects", h, nil)
			if r.want(t, 401, ""); r.Header.Get("X-Rate-Limit-Limit") != "" {
				t.Error("a stranger has a limit")
			}
		}
	}
	for range 5 {
		r := g.send("GET", "/oauth/authorize", g.header(0), nil)
		if r.want(t, 200, ""); r.Header.Get("X-Rate-Limit-Limit") != "" {
			t.Error("the login door's pages have a limit")
		}
	}
	g.send("GET", "/rest/v1.0/projects", g.header(inUS01), nil).says(t, 2, 1)
}

// Where an app has no limit, what the upstream says of its own goes through.
func TestNoRateLimit(t *testing.T) {
	g := start(t, handlers{"US01": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Rate-Limit-Limit", "7777") }}, limited(t, limit.Limits{}))
	if r := g.send("GET", "/rest/v1.0/projects", g.header(inUS01), nil); r.Header.Get("X-Rate-Limit-Limit") != "7777" {
		t.Errorf("headers %v", r.Header)
	}
}

// waits is a limiter that never decides.
type waits struct{ entered chan struct{} }

func (l waits) Take(ctx context.Context, _ string) limit.Verdict {
	l.entered <- struct{}{}
	<-ctx.Done()
	return limit.Verdict{Limited: true, Refused: true}
}

// A client that goes away keeps nothing waiting for its limits.
func TestRateLimitsEndWithTheCall(t *testing.T) {
	l := waits{make(chan struct{}, 1)}
	g := start(t, handlers{}, func(o *Options) { o.Limiter = l })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		r := request(t, "GET", g.api.URL+"/rest/v1.0/projects", g.header(inUS01), nil)
		resp, err := g.api.Client().Do(r.WithContext(ctx))
		if err == nil {
			err = resp.Body.Close()
		}
		ended <- err
	}()
	arrives(t, l.entered, "the call")
	cancel()
	if err := arrives(t, ended, "the end of the call"); !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
}

// counts is a ledger that keeps what it is told.
type counts []ledger.Call

func (c *counts) Served() {}

func (c *counts) Count(call ledger.Call) { *c = append(*c, call) }
