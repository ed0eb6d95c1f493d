package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"mpr/test/loopback"
)

// configure appends settings to the configuration of all roles.
func (s *topology) configure(t *testing.T, yaml string) {
	t.Helper()
	before, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(before, yaml...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// observed gives each role an operations listener, and answers their base URLs.
func (s *topology) observed(t *testing.T) map[string]string {
	t.Helper()
	urls := map[string]string{}
	addresses := loopback.FreeAddresses(t, len(s.processes))
	for name, p := range s.processes {
		address := addresses[len(urls)]
		p.args = append(p.args, "--operations", address)
		urls[name] = "http://" + address
	}
	return urls
}

// readiness is what /readyz answers, and with which status; 0 where nobody answers.
func readiness(ctx context.Context, url string) (status int, reasons []string) {
	a, err := call{URL: url + "/readyz"}.do(ctx)
	if err != nil {
		return 0, nil
	}
	var said struct{ Reasons []string }
	if json.Unmarshal(a.Body, &said) != nil {
		return 0, nil
	}
	return a.Status, said.Reasons
}

func becomes(t *testing.T, url string, want int) (reasons []string) {
	t.Helper()
	eventually(t, readyWithin, func() (bool, string) {
		var status int
		status, reasons = readiness(t.Context(), url)
		return status == want, fmt.Sprintf("%s/readyz answers %d %q", url, status, reasons)
	})
	return reasons
}

// An operator sees whether each role is ready and why not, what it answers, and which call
// went where, from the gateway to the statements of the region.
func TestOperators(t *testing.T) {
	s := newTopology(t)
	ops := s.observed(t)
	collector := newCollector(t)
	log := filepath.Join(t.TempDir(), "access.log")
	s.configure(t, fmt.Sprintf("access_log: {file: %q}\ntracing: {endpoint: %q, share: 1}\n", log, collector.URL))

	s.start(t, "gateway")
	if reasons := becomes(t, ops["gateway"], 503); len(reasons) != 1 || !strings.HasPrefix(reasons[0], "start: ") {
		t.Errorf("a gateway without any knowledge isn't ready because of %q", reasons)
	}
	call{URL: ops["gateway"] + "/livez"}.send(t).want(t, 200)
	s.start(t, "control", "login", "US01", "US02", "EU01")
	s.populate(t)
	for name := range s.processes {
		becomes(t, ops[name], 200)
	}
	token := s.machineToken(t, s.app(t, "developer_managed"))
	at := s.in(t, "EU01").ID
	id := s.projects(t.Context(), token, at).want(t, 200).Header.Get("X-Request-Id")
	s.projects(t.Context(), token, unknownCompany).wantCode(t, 403, "app_not_connected")

	s.figures(t, ops)
	s.logged(t, log, id, at, token)
	collector.follows(t, id)
	call{URL: ops["EU01"] + "/nothing"}.send(t).wantCode(t, 404, "not_found")

	// The directory gone is told by all, and keeps those from being ready that need it.
	s.kill(t, "control")
	eventually(t, readyWithin, func() (bool, string) {
		a := call{URL: ops["gateway"] + "/readyz"}.send(t).want(t, 200)
		return strings.Contains(string(a.Body), `"name":"directory","ok":false,"needed":false`), a.String()
	})

	// An upstream that is gone is told as well.
	s.kill(t, "EU01")
	eventually(t, readyWithin, func() (bool, string) {
		s.projects(t.Context(), token, at).want(t, 503)
		figures := string(call{URL: ops["gateway"] + "/metrics"}.send(t).want(t, 200).Body)
		return regexp.MustCompile(`mpr_upstream_out{environment="production",of="EU01",reason="unreachable",upstream="http[^"]*"} 1`).MatchString(figures) &&
			regexp.MustCompile(`mpr_upstream_ejections_total{environment="production",of="EU01",upstream="http[^"]*"} [1-9]`).MatchString(figures), figures
	})
	s.stop(t, "gateway", "login", "US01", "US02")
}

// figures looks at what the roles count.
func (s *topology) figures(t *testing.T, ops map[string]string) {
	t.Helper()
	pool := "reads"
	if s.stores != "" { // PostgreSQL has one for all
		pool = "all"
	}
	for name, wanted := range map[string][]string{
		"gateway": {
			`mpr_calls_total{door="api",environment="production",reason="",region="EU01",role="gateway",status="200"}`,
			`mpr_calls_total{door="api",environment="production",reason="app_not_connected",region="",role="gateway",status="403"} 1`,
			`mpr_upstream_out{environment="production",of="EU01",reason="",upstream="http`,
			`mpr_replica_companies{environment="production"} `, `mpr_replica_age_seconds{environment="production"} `, `mpr_build_info{role="gateway"`,
		},
		"EU01": {
			`mpr_calls_total{door="region",environment="production",reason="",region="EU01",role="region",status="200"}`,
			`go_sql_open_connections{db_name="region EU01 of production (` + pool + `)"}`,
		},
		"login":   {`mpr_calls_total{door="login",environment="production",reason="",region="",role="login",status="200"}`},
		"control": {`mpr_calls_total{door="admin",environment="",reason="",region="",role="control",status="201"}`, `mpr_move_rows{environment="production",rows="total"} 0`, `mpr_move_pause_seconds_count 0`},
	} {
		figures := string(call{URL: ops[name] + "/metrics"}.send(t).want(t, 200).Body)
		for _, want := range wanted {
			if !strings.Contains(figures, want) {
				t.Errorf("%s counts no %s:\n%s", name, want, figures)
			}
		}
		for _, a := range s.Apps {
			if strings.Contains(figures, a.ClientID) {
				t.Errorf("a label of %s names an app", name)
			}
		}
	}
}

// logged finds the call by its request id, as the gateway and the region have logged it.
func (s *topology) logged(t *testing.T, file, id string, company int64, token string) {
	t.Helper()
	roles := map[string]bool{}
	eventually(t, readyWithin, func() (bool, string) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(token)) {
			t.Fatal("the log tells a token")
		}
		for line := range bytes.Lines(data) {
			var one struct {
				Role, Method, Path, App, Region string
				RequestID                       string `json:"request_id"`
				Company                         int64
				Status                          int
			}
			if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &one) != nil {
				t.Fatalf("%q is no JSON", line)
			}
			if one.RequestID != id {
				continue
			}
			if one.Method != "GET" || one.Path != "/rest/v1.0/projects" || one.App == "" || one.Region != "EU01" || one.Company != company || one.Status != 200 {
				t.Fatalf("logged is %s", line)
			}
			roles[one.Role] = true
		}
		return roles["gateway"] && roles["region"], fmt.Sprint(roles)
	})
}

// collector takes spans as an OpenTelemetry collector does.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
}

type span struct{ trace, id, parent, name, request string }

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		var request tracepb.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(data, &request) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, one := range scope.Spans {
					s := span{string(one.TraceId), string(one.SpanId), string(one.ParentSpanId), one.Name, ""}
					for _, a := range one.Attributes {
						if a.Key == "mpr.request_id" {
							s.request = a.Value.GetStringValue()
						}
					}
					c.spans = append(c.spans, s)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// follows wants a trace that leads from the gateway's span of the request to the region's, and
// on to a statement.
func (c *collector) follows(t *testing.T, request string) {
	t.Helper()
	eventually(t, readyWithin, func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		byID := map[string]span{}
		for _, s := range c.spans {
			byID[s.id] = s
		}
		for _, q := range c.spans {
			r := byID[q.parent]
			g := byID[r.parent]
			if strings.HasPrefix(q.name, "sql.") && r.name == "region GET" && g.name == "gateway GET" && g.parent == "" && g.request == request && g.trace == q.trace {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d spans", len(c.spans))
	})
}

// "Rolling restart and upgrade without a failed call": a balancer that asks for readiness sends
// calls to two gateways, of which one after the other is replaced.
func TestRollingRestart(t *testing.T) {
	s := newTopology(t)
	s.configure(t, "operations: {drain_delay: 1s}\n")
	second := s.secondGateway(t)
	ops := s.observed(t)
	doors := map[string]string{"gateway": s.Environments[0].API, "gateway 2": second}
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway", "gateway 2")
	s.populate(t)
	b := s.balance(t, doors, ops, "EU01")
	for _, name := range []string{"gateway", "gateway 2", "gateway"} {
		b.flows(t)
		s.stop(t, name)
		s.start(t, name)
		becomes(t, ops[name], 200)
	}
	b.flows(t)
	b.end(t)
	s.stop(t, "gateway", "gateway 2", "control", "login", "US01", "US02", "EU01")
}

// "Control, login and the whole NATS cluster gone: calls to all regions go on, also after a
// gateway is restarted in that state from its copy on disk." No call fails, and what waited is
// done when they are back.
func TestCallsGoOnAlone(t *testing.T) {
	s := newTopology(t)
	s.configure(t, "operations: {drain_delay: 1s}\n")
	second := s.secondGateway(t)
	ops := s.observed(t)
	doors := map[string]string{"gateway": s.Environments[0].API, "gateway 2": second}
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway", "gateway 2")
	s.populate(t)
	b := s.balance(t, doors, ops, "US01", "US02", "EU01")
	b.flows(t)
	s.kill(t, "control", "login") // the directory's server is in control
	b.flows(t)
	for _, name := range []string{"gateway", "gateway 2"} {
		s.stop(t, name)
		s.start(t, name)
		becomes(t, ops[name], 200)
		b.flows(t)
	}
	if out, err := s.mpr("company", "create", "--name", "Waits", "--region", "US02"); err == nil {
		t.Errorf("a company was made without the control role: %s", out)
	}
	s.start(t, "control", "login")
	var made object
	s.runEventually(t, &made, "company", "create", "--name", "Waits", "--region", "US02", "--idempotency-key", "waits")
	b.flows(t)
	b.end(t)
	s.stop(t, "gateway", "gateway 2", "control", "login", "US01", "US02", "EU01")
}

// balance sends calls to the companies of these regions through those gateways that are ready.
func (s *topology) balance(t *testing.T, doors, ops map[string]string, regions ...string) *balancer {
	t.Helper()
	b := &balancer{doors: doors, ops: ops, token: s.machineToken(t, s.app(t, "developer_managed"))}
	for _, region := range regions {
		b.companies = append(b.companies, s.in(t, region).ID)
	}
	for name := range doors {
		becomes(t, ops[name], 200)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	b.cancel = cancel
	b.look(ctx)
	b.run(ctx)
	return b
}

// flows waits until some more calls have been answered.
func (b *balancer) flows(t *testing.T) {
	t.Helper()
	before := b.done.Load()
	eventually(t, readyWithin, func() (bool, string) { return b.done.Load() > before+20, "calls don't flow" })
}

// end ends the calls, of which none may have failed.
func (b *balancer) end(t *testing.T) {
	t.Helper()
	b.cancel()
	b.work.Wait()
	if b.failed.Load() != 0 {
		t.Errorf("of %d calls %d failed, the last one: %v", b.done.Load(), b.failed.Load(), b.last.Load())
	}
	t.Logf("%d calls, none of them failed", b.done.Load())
}

// secondGateway adds a gateway with an api door of its own, and answers the door's base URL.
func (s *topology) secondGateway(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	address := loopback.FreeAddresses(t, 2)
	yaml := strings.ReplaceAll(string(data), strings.TrimPrefix(s.Environments[0].API, "http://"), address[0])
	yaml = strings.ReplaceAll(yaml, strings.TrimPrefix(s.Environments[0].Legacy, "http://"), address[1])
	yaml = strings.Replace(yaml, fmt.Sprintf("data: %q", s.data), fmt.Sprintf("data: %q\nsecret_file: %q", filepath.Join(dir, "data"), filepath.Join(s.data, "internal.secret")), 1)
	file := filepath.Join(dir, "mpr.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s.add(t, "gateway 2", &process{args: []string{"gateway", "--config", file}, log: &logBook{}})
	return "http://" + address[0]
}

// balancer sends calls to those gateways that say that they are ready.
type balancer struct {
	doors, ops   map[string]string
	token        string
	companies    []int64
	cancel       context.CancelFunc
	ready        atomic.Pointer[[]string] // doors
	done, failed atomic.Int64
	last         atomic.Value // string
	work         sync.WaitGroup
}

// look asks all gateways once.
func (b *balancer) look(ctx context.Context) {
	var ready []string
	for name, door := range b.doors {
		if status, _ := readiness(ctx, b.ops[name]); status == 200 {
			ready = append(ready, door)
		}
	}
	b.ready.Store(&ready)
}

// run looks, and calls, until the context ends.
func (b *balancer) run(ctx context.Context) {
	b.work.Go(func() {
		every := time.NewTicker(50 * time.Millisecond)
		defer every.Stop()
		for ctx.Err() == nil {
			b.look(ctx)
			select {
			case <-every.C:
			case <-ctx.Done():
			}
		}
	})
	for n := range 4 {
		b.work.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				ready := *b.ready.Load()
				if len(ready) == 0 {
					b.failed.Add(1)
					b.last.Store("no gateway is ready")
					return
				}
				c := call{URL: ready[i%len(ready)] + "/rest/v1.0/projects", Token: b.token, Company: b.companies[i%len(b.companies)]}
				if i%2 == 0 {
					c.Method, c.JSON = "POST", map[string]any{"project": map[string]any{"name": fmt.Sprintf("project %d of %d", i, n)}}
				}
				a, err := c.do(context.WithoutCancel(ctx))
				b.done.Add(1)
				if err != nil || a.Status/100 != 2 {
					b.failed.Add(1)
					b.last.Store(fmt.Sprint(a, err))
				}
			}
		})
	}
}
