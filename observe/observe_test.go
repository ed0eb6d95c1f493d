package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mpr/observe"
	"mpr/problem"
)

func newProcess(t *testing.T, log observe.AccessLog) *observe.Process {
	t.Helper()
	p, err := observe.New(observe.Options{Role: "gateway", Version: "v1", Access: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// get asks the operations listener.
func get(t *testing.T, p *observe.Process, path string) (status int, body string) {
	t.Helper()
	s := httptest.NewServer(problem.Handler(p.Handler()))
	defer s.Close()
	resp, err := http.Get(s.URL + path) //nolint:noctx // it is our own
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func ready(t *testing.T, p *observe.Process, want int) observe.Readiness {
	t.Helper()
	status, body := get(t, p, "/readyz")
	var r observe.Readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil || status != want || r.Ready != (want == 200) {
		t.Fatalf("/readyz answers %d %s (%v); want %d", status, body, err, want)
	}
	return r
}

func TestReadiness(t *testing.T) {
	p := newProcess(t, observe.AccessLog{})
	ready(t, p, 200)
	broken := errors.New("it is gone")
	remove := p.Check(observe.Check{Name: "database", Ask: func(context.Context) error { return broken }})
	p.Check(observe.Check{Name: "directory", Needed: func() bool { return false }, Ask: func(context.Context) error { return errors.New("it can't be reached") }})
	p.Check(observe.Check{Name: "clock", Ask: func(context.Context) error { return nil }})
	r := ready(t, p, 503)
	if !slices.Equal(r.Reasons, []string{"database: it is gone"}) || len(r.Checks) != 3 {
		t.Errorf("not ready because of %q; it has found %+v", r.Reasons, r.Checks)
	}
	// A check that hangs is a check that fails.
	broken = nil
	ready(t, p, 200)
	hangs := p.Check(observe.Check{Name: "disk", Ask: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	if r := ready(t, p, 503); len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], "disk: ") {
		t.Errorf("not ready because of %q", r.Reasons)
	}
	hangs()
	remove()
	if r := ready(t, p, 200); len(r.Checks) != 2 {
		t.Errorf("it asks %+v", r.Checks)
	}
	if status, _ := get(t, p, "/livez"); status != 200 {
		t.Errorf("/livez answers %d", status)
	}
	p.Drain()
	if r := ready(t, p, 503); len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "about to stop") {
		t.Errorf("not ready because of %q", r.Reasons)
	}
	if status, _ := get(t, p, "/livez"); status != 200 {
		t.Errorf("a process that is about to stop isn't dead: /livez answers %d", status)
	}
}

// An environment that can't be served keeps calls from no other one: the process is ready while one of them is.
func TestReadinessOfEnvironments(t *testing.T) {
	p := newProcess(t, observe.AccessLog{})
	away := map[string]error{}
	for _, name := range []string{"production", "sandbox"} {
		p.Serves(name)
		p.Check(observe.Check{Name: "its database", Environment: name, Ask: func(context.Context) error { return away[name] }})
		// That of a copy which is being made.
		p.Check(observe.Check{Name: "another", Environment: name, Needed: func() bool { return false }, Ask: func(context.Context) error { return errors.New("gone") }})
	}
	at := func(name string) int {
		w := httptest.NewRecorder()
		p.ReadyOf(name).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		status, _ := get(t, p, "/readyz?env="+name)
		if status != w.Code {
			t.Errorf("of %s it says %d, and %d at the listener of %s", name, status, w.Code, name)
		}
		return status
	}
	expect := func(production, sandbox, all int) observe.Readiness {
		t.Helper()
		if got := []int{at("production"), at("sandbox")}; !slices.Equal(got, []int{production, sandbox}) {
			t.Errorf("production and sandbox: %d", got)
		}
		return ready(t, p, all)
	}
	expect(200, 200, 200)
	away["sandbox"] = errors.New("it is away")
	r := expect(200, 503, 200)
	if len(r.Environments) != 2 || !r.Environments[0].Ready || r.Environments[1].Ready || !slices.Equal(r.Environments[1].Reasons, []string{"its database: it is away"}) {
		t.Errorf("environments: %+v", r.Environments)
	}
	_, metrics := get(t, p, "/metrics")
	for _, want := range []string{"mpr_ready 1", `mpr_environment_ready{environment="production"} 1`, `mpr_environment_ready{environment="sandbox"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
	away["production"] = errors.New("it is away too")
	if r := expect(503, 503, 503); len(r.Reasons) != 2 {
		t.Errorf("not ready because of %q", r.Reasons)
	}
	// What all need counts for each.
	clear(away)
	remove := p.Check(observe.Check{Name: "start", Ask: func(context.Context) error { return errors.New("not yet") }})
	if status, _ := get(t, p, "/readyz?env=production"); status != 503 {
		t.Errorf("production before the process has started: %d", status)
	}
	remove()
	for _, query := range []string{"env=nothing", "env=", "env=production&env=sandbox", "env=%zz"} {
		if status, body := get(t, p, "/readyz?"+query); status != 404 {
			t.Errorf("/readyz?%s answers %d %s", query, status, body)
		}
	}
	p.Drain()
	expect(503, 503, 503)
}

// Calls through a door are counted by what became of them, and logged without what may be
// secret.
func TestDoor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	p := newProcess(t, observe.AccessLog{File: file, Share: 1})
	door := p.Door("login", "production", "login")
	s := httptest.NewServer(problem.Handler(door.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := observe.Of(r.Context())
		seen.ClientID, seen.Company, seen.Region = "app-1", 5, "EU01"
		switch r.URL.Path {
		case "/refused":
			problem.Write(w, r, problem.New(problem.NotFound, "There is nothing here."))
		case "/streams":
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "more")
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))))
	for _, path := range []string{"/made?code=secret", "/refused?token=secret", "/streams"} {
		resp, err := http.Get(s.URL + path) //nolint:noctx // it is our own
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	s.Close()
	_, metrics := get(t, p, "/metrics")
	for _, want := range []string{
		`mpr_calls_total{door="login",environment="production",reason="",region="EU01",role="login",status="201"} 1`,
		`mpr_calls_total{door="login",environment="production",reason="not_found",region="EU01",role="login",status="404"} 1`,
		`mpr_calls_total{door="login",environment="production",reason="",region="EU01",role="login",status="200"} 1`,
		`mpr_call_seconds_count{door="login",environment="production",region="EU01",role="login"} 3`,
		`mpr_calls_in_flight{door="login",environment="production",role="login"} 0`,
		`mpr_build_info{role="gateway",version="v1"} 1`, `mpr_ready 1`, `go_goroutines `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	if strings.Contains(metrics, "app-1") || strings.Contains(metrics, "secret") {
		t.Error("a label names an app")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	lines := logged(t, file)
	if len(lines) != 3 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	refused := lines[1]
	for name, want := range map[string]any{
		"role": "login", "environment": "production", "door": "login", "method": "GET", "path": "/refused", "status": 404.0,
		"app": "app-1", "company": 5.0, "region": "EU01", "reason": "not_found", "remote": "127.0.0.1",
	} {
		if refused[name] != want {
			t.Errorf("%s is %v in %v; want %v", name, refused[name], refused, want)
		}
	}
	if id, _ := refused["request_id"].(string); !problem.ValidRequestID(id) {
		t.Errorf("the request id is %q", id)
	}
}

// logged reads an access log. A secret in it is a failure.
func logged(t *testing.T, file string) (lines []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "secret") {
		t.Errorf("the log tells a secret: %s", data)
	}
	for line := range strings.Lines(string(data)) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, one)
	}
	return lines
}

// Of calls that were fine only a share is logged; of the others each one.
func TestShare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	p := newProcess(t, observe.AccessLog{File: file})
	door := p.Door("gateway", "production", "api")
	for _, c := range []observe.Call{
		{Status: 200}, {Status: 200}, {Status: 403, Reason: problem.CompanyForbidden}, {Status: 404}, {Status: 502}, {Status: 999},
	} {
		door.Begin()
		c.Began = time.Now()
		door.Done(&c)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var got []float64
	for _, line := range logged(t, file) {
		status, _ := line["status"].(float64)
		got = append(got, status)
	}
	if !slices.Equal(got, []float64{403, 502, 999}) {
		t.Errorf("logged are %v", got)
	}
	if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `status="other"} 1`) {
		t.Error("a status that isn't one has a series of its own")
	}
}

// The gateway's path of a call allocates nothing for being seen.
func TestDoneAllocatesNothing(t *testing.T) {
	p := newProcess(t, observe.AccessLog{})
	door := p.Door("gateway", "production", "api")
	c := &observe.Call{Status: 200, Region: "EU01", Method: "GET", Path: "/rest/v1.0/projects"}
	one := func() {
		door.Begin()
		c.Began = time.Now()
		door.Done(c)
	}
	one() // its series are made
	if n := testing.AllocsPerRun(100, one); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A file that can't be opened is said at the start, not found out later.
func TestAccessLogThatCantBe(t *testing.T) {
	if _, err := observe.New(observe.Options{Access: observe.AccessLog{File: t.TempDir()}}); err == nil {
		t.Error("a folder is no log")
	}
}
