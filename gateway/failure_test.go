package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// impatient makes what is waited for short. Where a test expects a stall it is short
// enough to wait for; what must not stall is far quicker.
func impatient(o *Options) {
	o.Limits.StallTimeout, o.Limits.AnswerTimeout = 300*time.Millisecond, 600*time.Millisecond
	o.Limits.IdleTimeout = 300 * time.Millisecond
}

// A client that goes away ends the call upstream.
func TestClientGoesAway(t *testing.T) {
	begun, ended := make(chan bool, 1), make(chan bool, 1)
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streaming" {
			must2(http.NewResponseController(w).Flush())
		}
		begun <- true
		if r.URL.Path == "/uploading" {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				t.Error("the body is complete")
			}
		} else {
			hang(r)
		}
		ended <- true
	}})
	for _, c := range []struct{ path, length string }{{"/waiting", "0"}, {"/streaming", "0"}, {"/uploading", "100000"}} {
		t.Run(c.path, func(t *testing.T) {
			w := g.dial()
			w.head(g, "POST "+c.path, "Procore-Company-Id: "+inEU01.String(), "Content-Length: "+c.length)
			arrives(t, begun, "the call")
			must(t, w.Close())
			arrives(t, ended, "the end of the call")
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		client, url := g.secure()
		resp, err := client.Do(request(t, "POST", url+"/streaming", g.header(inEU01), nil))
		must(t, err)
		arrives(t, begun, "the call")
		must(t, resp.Body.Close())
		arrives(t, ended, "the end of the call")
	})
}

// An answer that breaks off must not look complete.
func TestUpstreamDiesWithinItsAnswer(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		fullDuplex(w)
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", "1000")
		}
		must2(io.WriteString(w, "half"))
		must2(http.NewResponseController(w).Flush())
		panic(http.ErrAbortHandler)
	}})
	for _, target := range []string{"/chunks", "/x?length"} {
		t.Run("HTTP/1.1 "+target, func(t *testing.T) {
			c := g.dial()
			c.head(g, "GET "+target, "Procore-Company-Id: "+inEU01.String())
			content, err := io.ReadAll(c.answer("GET").Body)
			if err == nil || !strings.HasPrefix("half", string(content)) {
				t.Fatalf("%q, %v", content, err)
			}
			c.ends()
		})
		t.Run("HTTP/2 "+target, func(t *testing.T) {
			client, url := g.secure()
			resp, err := client.Do(request(t, "GET", url+target, g.header(inEU01), nil))
			if err != nil {
				return // the stream was reset before its header was read
			}
			defer resp.Body.Close()
			if content, err := io.ReadAll(resp.Body); err == nil {
				t.Fatalf("%q looks complete", content)
			}
		})
	}
	// Even while the client is still sending.
	c := g.dial()
	c.head(g, "POST /chunks", "Procore-Company-Id: "+inEU01.String(), "Content-Length: 100000")
	if content, err := io.ReadAll(c.answer("POST").Body); err == nil {
		t.Fatalf("%q looks complete", content)
	}
	c.ends()
}

// rawUpstream answers each connection with a function of the test.
func rawUpstream(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// in points the region EU01 at another upstream.
func (g *gate) in(upstreams ...string) {
	g.t.Helper()
	must(g.t, g.directory.PutRegion(g.t.Context(), company.RegionInfo{Code: "EU01", Number: numbers["EU01"], Upstreams: upstreams}))
	g.until(func() bool {
		info, ok := g.replica.Region("EU01")
		return ok == (len(upstreams) > 0) && slices.Equal(info.Upstreams, upstreams)
	})
}

// until waits for what the replica will say.
func (g *gate) until(ok func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			g.t.Fatal("the replica doesn't follow")
		}
	}
}

func TestBadUpstreams(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	for name, answer := range map[string]string{
		"none": "", "nonsense": "hello\r\n\r\n", "another protocol": "SSH-2.0-x\r\n", "a cut header": "HTTP/1.1 200 OK\r\nA: b",
		"a bad length":      "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"a large header":    "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 300<<10) + "\r\n\r\n",
		"an upgrade":        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"an unknown coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nxx",
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			g.in(rawUpstream(t, func(conn net.Conn) {
				defer conn.Close()
				calls.Add(1)
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				if _, err := io.WriteString(conn, answer); err != nil {
					return // the gateway had read enough
				}
			}))
			for _, method := range []string{"GET", "POST", "DELETE"} {
				got := g.send(method, "/x", g.header(inEU01, "Idempotency-Key", "1"), nil)
				got.want(t, 502, problem.BadUpstreamAnswer)
				if strings.Contains(got.body, "may have been carried out") != (method != "GET") {
					t.Errorf("%s: %s", method, got.body)
				}
			}
			if n := calls.Load(); n != 3 {
				t.Errorf("the upstream got %d calls instead of 3", n)
			}
		})
	}
}

// "No retry of a call that may have had an effect": where a kept connection ends while the
// call is under way, only calls without effect are repeated.
func TestKeptConnectionEnds(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	var calls atomic.Int32
	g.in(rawUpstream(t, func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for range 2 { // the second call on a connection is read and not answered
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			calls.Add(1)
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if calls.Load()%2 == 0 {
				return
			}
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	}))
	for _, c := range []struct {
		method string
		body   string
		status int
		calls  int32
	}{{"POST", "", 502, 2}, {"POST", "x", 502, 2}, {"DELETE", "", 502, 2}, {"GET", "", 200, 3}} {
		calls.Store(0)
		g.send("GET", "/first", g.header(inEU01), nil).want(t, 200, "")
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		got := g.send(c.method, "/second", g.header(inEU01, "Idempotency-Key", "1"), body)
		if got.StatusCode != c.status || calls.Load() != c.calls {
			t.Errorf("%s %q: %s after %d calls, want %d after %d", c.method, c.body, got.Status, calls.Load(), c.status, c.calls)
		}
	}
}

// Who makes no progress is cut off; who makes some is not, however long it takes.
func TestStalls(t *testing.T) {
	ended := make(chan bool, 1)
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			hang(r)
		case "/pause":
			must2(io.WriteString(w, "half"))
			must2(http.NewResponseController(w).Flush())
			hang(r)
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					ended <- true
					return
				}
			}
		default:
			echo(w, r)
		}
	}}, impatient)
	to := "Procore-Company-Id: " + inEU01.String()
	t.Run("no answer", func(t *testing.T) {
		g.send("GET", "/silent", g.header(inEU01), nil).want(t, 504, problem.RegionTimeout)
	})
	t.Run("the answer stops", func(t *testing.T) {
		c := g.dial()
		c.head(g, "GET /pause", to)
		if content, err := io.ReadAll(c.answer("GET").Body); err == nil || string(content) != "half" {
			t.Errorf("%q, %v", content, err)
		}
		c.ends()
	})
	t.Run("the client's body stops", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /x", to, "Content-Length: 10")
		c.write("half")
		resp := c.answer("POST")
		if resp.StatusCode != 408 || !resp.Close {
			t.Error(resp.Status, resp.Close)
		}
		c.ends()
	})
	t.Run("the client's body never starts, and nobody wants it", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /x", "Content-Length: 10")
		resp := c.answer("POST")
		if resp.StatusCode != 400 {
			t.Error(resp.Status)
		}
		c.ends()
	})
	t.Run("the client reads nothing", func(t *testing.T) {
		c := g.dial()
		c.head(g, "GET /endless", to)
		arrives(t, ended, "the end of the call")
	})
	t.Run("HTTP/2, the client's body stops", func(t *testing.T) {
		client, url := g.secure()
		in, out := io.Pipe()
		defer func() { must2(out.Close()) }()
		do(t, client, request(t, "POST", url+"/x", g.header(inEU01), in)).want(t, 408, problem.BodyTimeout)
	})
}

// What is slow isn't cut off: the limit is for each pause, not for the whole. The pauses are far
// shorter than the limit, and longer only together.
func TestSlowIsNoStall(t *testing.T) {
	const pauses, pause, stall = 5, 300 * time.Millisecond, time.Second
	slowly := func(write func()) {
		for range pauses {
			write()
			<-time.After(pause)
		}
	}
	all := strings.Repeat("x", pauses)
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			echo(w, r)
			return
		}
		slowly(func() {
			must2(io.WriteString(w, "x"))
			must2(http.NewResponseController(w).Flush())
		})
	}}, impatient, func(o *Options) { o.Limits.StallTimeout, o.Limits.AnswerTimeout = stall, time.Minute })
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /x", "Procore-Company-Id: "+inEU01.String(), "Content-Length: "+strconv.Itoa(pauses))
		slowly(func() { c.write("x") })
		if resp := c.answer("POST"); resp.StatusCode != 200 || resp.Close {
			t.Error(resp.Status, resp.Close)
		}
		if got := g.send("GET", "/slow", g.header(inEU01), nil); got.body != all {
			t.Errorf("%q", got.body)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		client, url := g.secure()
		in, out := io.Pipe()
		go func() {
			defer func() { must2(out.Close()) }()
			slowly(func() { must2(io.WriteString(out, "x")) })
		}()
		do(t, client, request(t, "POST", url+"/x", g.header(inEU01), in)).want(t, 200, "")
		if got := do(t, client, request(t, "GET", url+"/slow", g.header(inEU01), nil)); got.body != all {
			t.Errorf("%q", got.body)
		}
	})
}

// An upstream that goes away is noticed while the client takes its time, and one that
// stops reading is.
func TestUpstreamDropsTheBody(t *testing.T) {
	g := start(t, handlers{"EU01": echo}, impatient, func(o *Options) { o.Limits.MaxBody = 0 })
	to := "Procore-Company-Id: " + inEU01.String()
	t.Run("goes away", func(t *testing.T) {
		g.service.limits.StallTimeout = time.Minute // nothing else may end the call
		defer func() { g.service.limits.StallTimeout = 300 * time.Millisecond }()
		g.in(rawUpstream(t, func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			conn.Close()
		}))
		c := g.dial()
		c.head(g, "POST /x", to, "Content-Length: 100000")
		resp := c.answer("POST")
		if resp.StatusCode != 502 || !resp.Close {
			t.Fatal(resp.Status, resp.Close)
		}
	})
	t.Run("stops reading", func(t *testing.T) {
		gone := make(chan bool)
		defer close(gone)
		g.in(rawUpstream(t, func(conn net.Conn) {
			defer conn.Close()
			<-gone
		}))
		r := request(t, "POST", g.api.URL+"/x", g.header(inEU01), newStream(1<<40))
		do(t, g.api.Client(), r).want(t, 504, problem.RegionTimeout)
	})
}

// An early answer with the rest of the body still to come: the rest must never be taken
// for another request.
func TestRestOfABodyIsNoRequest(t *testing.T) {
	var hidden atomic.Int32
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hidden" {
			hidden.Add(1)
		}
		fullDuplex(w)
		w.Header().Set("Connection", "close")
		must2(io.WriteString(w, "early"))
	}})
	to := "Procore-Company-Id: " + inEU01.String()
	inner := "GET /hidden HTTP/1.1\r\nHost: api.procore.com\r\nAuthorization: Bearer " + g.user + "\r\n" + to + "\r\n\r\n"
	for name, id := range map[string]company.ID{"the region answers early": inEU01, "the rules refuse": nowhere} {
		t.Run(name, func(t *testing.T) {
			c := g.dial()
			c.head(g, "POST /x", "Procore-Company-Id: "+id.String(), "Content-Length: 100000")
			resp := c.answer("POST")
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, inner); err == nil {
				c.ends()
			}
		})
	}
	if hidden.Load() != 0 {
		t.Fatal("the rest of a body was read as a request")
	}
}

// A region whose connections are all in use refuses what is too much, and holds up nobody
// else.
func TestRegionsShareNothing(t *testing.T) {
	release, begun := make(chan bool), make(chan bool, 10)
	g := start(t, handlers{
		"EU01": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				begun <- true
				<-release
			}
		},
		"US01": echo,
	}, func(o *Options) { o.Limits.UpstreamConns, o.Limits.ConnectTimeout = 2, 200*time.Millisecond })
	ended := make(chan *http.Response, 2)
	for _, app := range []string{"client", "another"} {
		r := request(t, "GET", g.api.URL+"/hang", g.header(inEU01), nil)
		r.Header.Set("Authorization", "Bearer "+g.signFor(app, rules.UserToken, 0))
		go func() {
			resp, err := g.api.Client().Do(r)
			if err != nil {
				t.Error(err)
				resp = nil
			} else {
				resp.Body.Close()
			}
			ended <- resp
		}()
	}
	arrives(t, begun, "the first call")
	arrives(t, begun, "the second call")
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 503, problem.RegionUnavailable)
	g.send("GET", "/x", g.header(inUS01), nil).want(t, 200, "")
	close(release)
	for range 2 {
		if resp := arrives(t, ended, "an answer"); resp == nil || resp.StatusCode != 200 {
			t.Error(resp)
		}
	}
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
}

// One of several upstreams is away: calls go to the others, with their bodies.
func TestUpstreamsStandInForOneAnother(t *testing.T) {
	g := start(t, handlers{"EU01": echo})
	g.in("http://"+closedPort(t), g.upstream(http.HandlerFunc(echo))+"/base/", "https://"+closedPort(t))
	for range 6 {
		got := g.send("POST", "/x?y", g.header(inEU01), strings.NewReader("hello"))
		got.want(t, 200, "")
		if !strings.HasPrefix(got.body, "POST /base/x?y\n") || !strings.HasSuffix(got.body, "\n\nhello") {
			t.Errorf("the upstream got %s", got.body)
		}
	}
	g.in("ftp://nonsense")
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 503, problem.RegionUnavailable)
	g.in()
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 503, problem.RegionUnavailable)
}
