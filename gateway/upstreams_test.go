package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/test/await"
)

// call makes a call into EU01 in the background.
func (g *gate) call(method, target string) <-chan int {
	status := make(chan int, 1)
	r := request(g.t, method, g.api.URL+target, g.header(inEU01), nil)
	go func() {
		resp, err := g.api.Client().Do(r)
		if err != nil {
			status <- 0
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	return status
}

// sees waits until the gateway thinks so of an upstream of EU01.
func (g *gate) sees(url string, ok func(UpstreamState) bool) {
	g.t.Helper()
	var last []UpstreamState
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		last = g.service.Upstreams()
		for _, s := range last {
			if s.URL == url && s.Of == "EU01" && ok(s) {
				return
			}
		}
	}
	g.t.Fatalf("the gateway thinks of its upstreams: %+v", last)
}

// One of three upstreams hangs: whoever met it waits, all others are served by the rest.
func TestHangingUpstream(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	release, hung := make(chan bool), make(chan bool, 100)
	hanging := g.upstream(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		hung <- true
		<-release
	}))
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	g.in(hanging, g.upstream(http.HandlerFunc(echo)), g.upstream(http.HandlerFunc(echo)))
	stuck := 0
	for range 100 {
		select {
		case status := <-g.call("GET", "/x"):
			if status != 200 {
				t.Fatal(status)
			}
		case <-hung:
			stuck++
		}
	}
	if stuck > 1 {
		t.Errorf("%d of 100 calls went to the upstream that hangs", stuck)
	}
}

// One of three upstreams breaks every connection: calls without effect are served by the
// others, those that may have had one are told, and after a few of them no more go there.
func TestBreakingUpstream(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			g := start(t, handlers{"EU01": echo})
			var mu sync.Mutex
			arrived := map[string]int{}
			note := func(r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				arrived[r.URL.Path]++
			}
			breaking := rawUpstream(t, func(conn net.Conn) {
				defer conn.Close()
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					note(r)
				}
			})
			good := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { note(r); echo(w, r) })
			g.in(breaking, g.upstream(good), g.upstream(good))
			failed := 0
			for i := range 60 {
				status := <-g.call(method, "/"+strconv.Itoa(i))
				if status != 200 {
					failed++
					if status != 502 {
						t.Error(status)
					}
				}
			}
			most := map[string]int{"GET": 0, "POST": manyFailures}[method]
			if failed > most {
				t.Errorf("%d calls failed, %d may", failed, most)
			}
			for path, n := range arrived {
				if method == "POST" && n > 1 {
					t.Errorf("POST %s was sent %d times", path, n)
				}
			}
			g.sees(breaking, func(s UpstreamState) bool { return s.Ejections > 0 })
		})
	}
}

// lateUpstream is an address where nobody listens until it is opened.
type lateUpstream struct {
	t       *testing.T
	address string
}

func (l *lateUpstream) open(h http.HandlerFunc) {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.address)
	must(l.t, err)
	s := &http.Server{Handler: h} //nolint:gosec // the gateway is its only client
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(listener) }()
	l.t.Cleanup(func() { must(l.t, s.Close()); <-done })
}

// A region is gone: calls to it are refused without an attempt. It comes back, and gets one
// call more at a time with each that it answers.
func TestRegionComesBack(t *testing.T) {
	g := start(t, handlers{"EU01": echo, "US01": echo})
	late := &lateUpstream{t, closedPort(t)}
	url := "http://" + late.address
	g.in(url)
	for range manyFailures {
		g.send("GET", "/x", g.header(inEU01), nil).want(t, 503, problem.RegionUnavailable)
	}
	g.sees(url, func(s UpstreamState) bool { return s.Out && s.Reason == "unreachable" })
	got := g.send("POST", "/x", g.header(inEU01), strings.NewReader("x"))
	got.want(t, 503, problem.RegionUnavailable)
	if n, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || n < 1 || n > 4 {
		t.Errorf("Retry-After: %s", got.Header.Get("Retry-After"))
	}
	g.send("GET", "/x", g.header(inUS01), nil).want(t, 200, "")

	var flying, answered, most atomic.Int64
	opened := time.Now()
	late.open(func(w http.ResponseWriter, r *http.Request) {
		n := flying.Add(1)
		if allowed := answered.Load() + 1 + int64(time.Since(opened)/warmStep); n > allowed {
			t.Errorf("%d calls at a time after %d answers", n, allowed-1)
		}
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		echo(w, r)
		answered.Add(1)
		flying.Add(-1)
	})
	g.sees(url, func(s UpstreamState) bool { return !s.Out })
	var served atomic.Int64
	var clients sync.WaitGroup
	for range 32 { // they all want to be back at once
		clients.Go(func() {
			for served.Load() < 500 {
				switch status := <-g.call("GET", "/x"); status {
				case 200:
					served.Add(1)
				case 503:
				default:
					t.Error(status)
					return
				}
			}
		})
	}
	clients.Wait()
	g.sees(url, func(s UpstreamState) bool { return s.Allowance == 0 })
	t.Logf("at most %d calls at a time", most.Load())
}

// A region that comes back is busy at once with a report that takes long and an upload that
// its client dribbles: others are served.
func TestReturnBesideSlowCalls(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	late := &lateUpstream{t, closedPort(t)}
	url := "http://" + late.address
	g.in(url)
	for range manyFailures {
		g.send("GET", "/x", g.header(inEU01), nil).want(t, 503, problem.RegionUnavailable)
	}
	g.sees(url, func(s UpstreamState) bool { return s.Out })
	arrived, release := make(chan string, 10), make(chan bool)
	late.open(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/x" {
			arrived <- r.URL.Path
			<-release
		}
		echo(w, r)
	})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	g.sees(url, func(s UpstreamState) bool { return !s.Out && s.Allowance > 0 })
	upload := g.dial()
	upload.head(g, "POST /upload", "Procore-Company-Id: "+inEU01.String(), "Transfer-Encoding: chunked")
	upload.write("1\r\nx\r\n")
	arrives(t, arrived, "the upload")
	report := g.call("GET", "/report")
	arrives(t, arrived, "the call for a report")
	for range 20 {
		g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	}
	release <- true
	release <- true
	upload.write("0\r\n\r\n")
	if status := upload.answer("POST").StatusCode; status != 200 {
		t.Error(status)
	}
	if status := arrives(t, report, "the report"); status != 200 {
		t.Error(status)
	}
}

// An upstream comes and goes: calls go on by the other one.
func TestFlappingUpstream(t *testing.T) {
	g := start(t, handlers{"EU01": echo}, func(o *Options) { o.Limits.HealthInterval = 20 * time.Millisecond })
	address := closedPort(t)
	g.in("http://"+address, g.upstream(http.HandlerFunc(echo)))
	for range 3 {
		listener, err := net.Listen("tcp", address)
		must(t, err)
		s := &http.Server{Handler: http.HandlerFunc(echo)} //nolint:gosec // the gateway is its only client
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(listener) }()
		for range 20 {
			g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
		}
		g.sees("http://"+address, func(s UpstreamState) bool { return !s.Out })
		must(t, s.Close())
		<-done
		for range 20 {
			g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
			// A connection that was kept and ends while a POST is on it fails that POST.
			if got := g.send("POST", "/x", g.header(inEU01), nil); got.StatusCode != 200 && got.StatusCode != 502 {
				t.Error(got.Status)
			}
		}
		g.sees("http://"+address, func(s UpstreamState) bool { return s.Out })
	}
}

// The path of health is asked where there is one, and an upstream that isn't well gets no
// calls while the other is.
func TestHealthPath(t *testing.T) {
	g := start(t, handlers{"EU01": echo}, func(o *Options) { o.Limits.HealthInterval = 20 * time.Millisecond })
	var unwell atomic.Bool
	var calls atomic.Int64
	sick := g.upstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/base/readyz":
			calls.Add(1)
		case r.Header.Get("Authorization") != "":
			t.Error("a check with a client's token")
		case unwell.Load():
			w.WriteHeader(503)
		}
	})) + "/base"
	info := company.RegionInfo{Code: "EU01", Number: numbers["EU01"], Upstreams: []string{sick, g.upstream(http.HandlerFunc(echo))}, HealthPath: "/readyz"}
	must(t, g.directory.PutRegion(t.Context(), info))
	g.until(func() bool { now, _ := g.replica.Region("EU01"); return now.HealthPath == "/readyz" })
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	unwell.Store(true)
	g.sees(sick, func(s UpstreamState) bool { return s.Out && s.Reason == "unwell" })
	calls.Store(0)
	for range 20 {
		g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("an upstream that isn't well got %d calls", n)
	}
	unwell.Store(false)
	g.sees(sick, func(s UpstreamState) bool { return !s.Out })
}

// Clients ask for what takes long, and leave before there is an answer. Nobody else calls the
// region, which answers its checks: it isn't left out.
func TestImpatientClients(t *testing.T) {
	g := start(t, handlers{"EU01": echo}, func(o *Options) {
		o.Limits.HealthInterval, o.Limits.AnswerTimeout = 20*time.Millisecond, 400*time.Millisecond
	})
	arrived, left := make(chan bool, 10), make(chan bool, 10)
	var checks atomic.Int64
	url := g.upstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			checks.Add(1)
		case "/report":
			arrived <- true
			hang(r)
			left <- true
		default:
			echo(w, r)
		}
	}))
	must(t, g.directory.PutRegion(t.Context(), company.RegionInfo{Code: "EU01", Number: numbers["EU01"], Upstreams: []string{url}, HealthPath: "/readyz"}))
	g.until(func() bool { now, _ := g.replica.Region("EU01"); return now.HealthPath == "/readyz" })
	for range 2 * manySilences {
		began := time.Now()
		client := g.dial()
		client.head(g, "GET /report", "Procore-Company-Id: "+inEU01.String())
		arrives(t, arrived, "the call")
		seen := checks.Load()
		await.That(t, "the upstream is checked, and the client has waited for a quarter of the time", func() bool {
			return checks.Load() >= seen+2 && time.Since(began) > g.service.limits.AnswerTimeout/4
		})
		client.Close()
		arrives(t, left, "the end of the call")
	}
	g.sees(url, func(s UpstreamState) bool { return s.Outstanding == 0 && s.Ejections == 0 })
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
}

// "Hedging never for writes": a GET that is late is sent to another upstream too, a POST
// isn't, however late it is.
func TestHedging(t *testing.T) {
	g := start(t, handlers{"EU01": echo}, func(o *Options) { o.Limits.HedgePercent = 20 })
	var mu sync.Mutex
	arrived := map[string]int{}
	first, left := make(chan string, 10), make(chan bool, 10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/late") {
			mu.Lock()
			arrived[r.Method+r.URL.Path]++
			n := arrived[r.Method+r.URL.Path]
			mu.Unlock()
			if n == 1 {
				first <- r.Method
				hang(r)
				left <- true
				return
			}
		}
		echo(w, r)
	})
	g.in(g.upstream(h), g.upstream(h))
	for range 2 * hedgeSample {
		g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	}
	w := map[string]*wire{}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		w[method] = g.dial()
		w[method].head(g, method+" /late/w", "Procore-Company-Id: "+inEU01.String(), "Content-Length: 0")
		arrives(t, first, method)
	}
	for i := range 3 {
		if status := arrives(t, g.call("GET", fmt.Sprintf("/late/%d", i)), "the hedged call"); status != 200 {
			t.Fatal(status)
		}
		arrives(t, first, "GET")
		arrives(t, left, "the end of the call that was beaten")
	}
	mu.Lock()
	defer mu.Unlock()
	for call, n := range arrived {
		want := 1
		if strings.HasPrefix(call, "GET") {
			want = 2
		}
		if n != want {
			t.Errorf("%s was sent %d times, want %d", call, n, want)
		}
	}
	for _, conn := range w {
		conn.Close()
	}
	for _, group := range *g.service.regions.groups.Load() {
		if group.name == "EU01" { // a call gives its slot back after its client has the answer
			await.That(t, "all slots are given back", func() bool { return group.slots.inUse() == 0 })
		}
	}
}

// Hedges are a share of the calls, whatever happens.
func TestHedgesAreFew(t *testing.T) {
	h := hedges{percent: 5}
	spent := 0
	for range 10_000 {
		h.counts()
		if h.spend() {
			spent++
		}
	}
	if spent < 400 || spent > 500 {
		t.Errorf("%d hedges for 10000 calls", spent)
	}
	if _, known := h.counts(); known {
		t.Error("it is said what late is before anything is known")
	}
	for i := range 1000 {
		h.answered(time.Duration(i+1) * time.Millisecond)
	}
	if late, _ := h.counts(); late < 900*time.Millisecond || late > 1200*time.Millisecond {
		t.Errorf("late is after %v, want about 950ms", late)
	}
	for _, d := range []time.Duration{0, time.Microsecond, time.Millisecond, time.Second, time.Hour, 1 << 62} {
		if s := step(d); s < 0 || s >= len(h.took) || d < time.Hour && (duration(s) > max(d, 4*time.Microsecond) || duration(s+1) < d) {
			t.Errorf("%v is between %v and %v", d, duration(s), duration(s+1))
		}
	}
}

// A region that takes connections and answers nothing gets a flood of calls: it takes up no
// more than its share, and all others are served.
func TestBlackHole(t *testing.T) {
	const conns, clients = 8, 300
	g := start(t, handlers{"EU01": echo, "US01": echo}, func(o *Options) {
		o.Limits.UpstreamConns, o.Limits.ConnectTimeout = conns, time.Minute
	})
	gone := make(chan bool)
	var held atomic.Int64
	g.in(rawUpstream(t, func(conn net.Conn) {
		held.Add(1)
		<-gone
		conn.Close()
	}))
	before := runtime.NumGoroutine()
	var flood []<-chan int
	refused := 0
	for range clients {
		flood = append(flood, g.call("GET", "/x"))
	}
	done := make(chan int, clients)
	for _, c := range flood {
		go func() { done <- <-c }()
	}
	for refused < clients-2*conns { // the rest are in flight, or wait for those that are
		if status := arrives(t, done, "a refusal"); status != 503 {
			t.Fatal(status)
		}
		refused++
		if refused%10 == 0 {
			g.send("GET", "/x", g.header(inUS01), nil).want(t, 200, "")
			g.send("POST", "/x", g.header(inUS01), strings.NewReader("x")).want(t, 200, "")
		}
	}
	if n := held.Load(); n > conns {
		t.Errorf("%d connections to a region that may have %d", n, conns)
	}
	t.Logf("%d goroutines more", runtime.NumGoroutine()-before)
	for range 100 {
		g.send("GET", "/x", g.header(inUS01), nil).want(t, 200, "")
	}
	close(gone)
	for range 2 * conns {
		arrives(t, done, "the end of a call")
	}
}

// An upstream that is about to stop says so in its answers, which clients don't see, and to checks.
func TestLeavingUpstream(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	var stops atomic.Bool
	leaves := g.upstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stops.Load() {
			w.Header().Set(LeavingHeader, "1")
		}
		echo(w, r)
	}))
	info := company.RegionInfo{Code: "EU01", Number: numbers["EU01"], Upstreams: []string{leaves, g.upstream(http.HandlerFunc(echo))}, HealthPath: "/readyz"}
	must(t, g.directory.PutRegion(t.Context(), info))
	g.until(func() bool { now, _ := g.replica.Region("EU01"); return now.HealthPath == "/readyz" })
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	stops.Store(true)
	g.sees(leaves, func(u UpstreamState) bool {
		a := g.send("GET", "/x", g.header(inEU01), nil)
		a.want(t, 200, "")
		if a.Header.Get(LeavingHeader) != "" {
			t.Error("the client is told")
		}
		return u.Out && u.Reason == "leaving"
	})
	stops.Store(false)
	g.sees(leaves, func(u UpstreamState) bool { return !u.Out })
}
