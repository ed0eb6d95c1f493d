package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// secure serves a handler over TLS, HTTP/2 by net/http, and answers the address and a client.
func secure(t *testing.T, h http.Handler) (string, *http.Client) {
	t.Helper()
	borrowed := httptest.NewUnstartedServer(h) // for its certificate
	borrowed.EnableHTTP2 = true
	borrowed.StartTLS()
	config := borrowed.TLS.Clone()
	config.NextProtos = append(config.NextProtos, challenge)
	client := borrowed.Client()
	borrowed.Close()
	s := &Server{
		Handler: h, MaxHeader: 64 << 10, HeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, StallTimeout: 10 * time.Second,
		Refused: func(w http.ResponseWriter, _ *http.Request, e *Error) { http.Error(w, e.Reason, e.Status) },
		TLS:     config, HTTP2: &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second, HTTP2: &http.HTTP2Config{MaxReadFrameSize: 16 << 10}},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		must(t, s.Shutdown(ctx))
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), client
}

// challenge is what a CA speaks that looks whether a host is ours.
const challenge = "acme-tls/1"

// Whoever speaks no HTTP over TLS is told, or left. Who says nothing at all holds up no shutdown.
func TestOthersThanHTTPOverTLS(t *testing.T) {
	address, client := secure(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
	silent, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	plain, err := http.Get("http://" + address + "/")
	must(t, err)
	must(t, plain.Body.Close())
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("HTTP: %s", plain.Status)
	}
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	config := transport.TLSClientConfig.Clone()
	config.NextProtos = []string{challenge}
	conn, err := tls.Dial("tcp", address, config)
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if got, err := io.ReadAll(conn); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
}

// Clients that want HTTP/2 have it, and those that don't have HTTP/1.1, by the same handler.
func TestBothVersionsOverTLS(t *testing.T) {
	address, client := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%d over %t", r.ProtoMajor, r.TLS != nil)
	}))
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	for protocols, want := range map[string]string{"h2": "2 over true", "http/1.1": "1 over true"} {
		own := transport.Clone()
		own.ForceAttemptHTTP2 = protocols == "h2"
		own.TLSClientConfig.NextProtos = []string{protocols}
		if protocols != "h2" {
			own.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		resp, err := (&http.Client{Transport: own}).Get("https://" + address + "/")
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if string(body) != want {
			t.Errorf("%s: %q", protocols, body)
		}
		own.CloseIdleConnections()
	}
}

// The tests of others for servers of HTTP/2.
func TestH2Spec(t *testing.T) {
	program, err := exec.LookPath("../../bin/h2spec")
	if err != nil {
		t.Skip("bin/h2spec is missing: make test installs it")
	}
	address, _ := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 1024))
	}))
	host, port, err := net.SplitHostPort(address)
	must(t, err)
	out, err := exec.CommandContext(t.Context(), program, "-h", host, "-p", port, "-t", "-k", "-o", "10").CombinedOutput() //nolint:gosec // of make test
	text := string(out)
	failed := map[string]bool{}
	for line := range strings.Lines(text) {
		if _, what, ok := strings.Cut(line, "\u00d7 "); ok {
			_, what, _ = strings.Cut(what, ": ")
			failed[strings.TrimSpace(what)] = true
		}
	}
	for what := range failed {
		if why, known := otherwise[what]; known {
			t.Logf("%s: net/http does otherwise: %s", what, why)
		} else {
			t.Errorf("failed: %s", what)
		}
	}
	if i := strings.LastIndex(text, "tests, "); i >= 0 {
		t.Log(text[strings.LastIndex(text[:i], "\n")+1:])
	} else {
		t.Errorf("no result: %v\n%s", err, text)
	}
}

// otherwise are the tests that net/http's server of HTTP/2 fails on purpose.
var otherwise = map[string]string{
	"Sends a HEADERS frame that contains the connection-specific header field":                     "it answers 400, in place of an error of the stream",
	`Sends a HEADERS frame that contains the TE header field with any value other than "trailers"`: "it answers 400, in place of an error of the stream",
	"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                        "it ends connections with settings that come twice",
}

// dialed is a client that writes what it likes.
type dialed struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialTo(t *testing.T, address string) *dialed {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &dialed{t, conn, bufio.NewReader(conn)}
}

func (d *dialed) write(s string) {
	d.t.Helper()
	_, err := io.WriteString(d, s)
	must(d.t, err)
}

func (d *dialed) answer(method string) (*http.Response, string) {
	d.t.Helper()
	resp, err := http.ReadResponse(d.r, &http.Request{Method: method})
	must(d.t, err)
	body, err := io.ReadAll(resp.Body)
	must(d.t, err)
	return resp, string(body)
}

// ends expects the end of the connection.
func (d *dialed) ends() {
	d.t.Helper()
	if rest, err := io.ReadAll(d.r); err != nil || len(rest) > 0 {
		d.t.Errorf("the connection goes on: %q, %v", rest, err)
	}
}

func TestAnswersHaveTheirForm(t *testing.T) {
	address := ourServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/small":
			_, _ = io.WriteString(w, "hi")
		case "/large":
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat("x", 1000))
			}
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/length":
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "hi")
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "hi")
			w.(http.Flusher).Flush() //nolint:forcetypeassert,errcheck // it is one
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-More", "2")
		case "/split":
			w.Header().Set("X-A", "b\r\nX-B: c")
			w.Header()["Bad Name"] = []string{"x"}
		}
	})
	d := dialTo(t, address)
	for _, c := range []struct {
		method, path string
		length       int64
		body         int
	}{
		{"GET", "/small", 2, 2}, {"HEAD", "/small", 2, 0}, {"GET", "/large", -1, 100_000}, {"HEAD", "/large", -1, 0},
		{"GET", "/nothing", 0, 0}, {"GET", "/length", 2, 2}, {"HEAD", "/length", 2, 0}, {"GET", "/trailer", -1, 2}, {"GET", "/split", 0, 0},
	} {
		d.write(c.method + " " + c.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, body := d.answer(c.method)
		if len(body) != c.body || resp.ContentLength != c.length && c.method != "HEAD" || resp.Header.Get("Date") == "" {
			t.Errorf("%s %s: %d bytes, %v", c.method, c.path, len(body), resp)
		}
		if c.path == "/trailer" && (resp.Trailer.Get("X-Sum") != "1" || resp.Trailer.Get("X-More") != "2") {
			t.Errorf("trailers: %v", resp.Trailer)
		}
		if c.path == "/split" && (resp.Header.Get("X-A") != "b  X-B: c" || len(resp.Header) != 3) {
			t.Errorf("header: %v", resp.Header)
		}
	}
	// To HTTP/1.0 a body of unknown length ends with the connection.
	d.write("GET /large HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if resp, body := d.answer("GET"); len(body) != 100_000 || len(resp.TransferEncoding) > 0 {
		t.Errorf("%d bytes, %v", len(body), resp)
	}
	d = dialTo(t, address)
	for range 2 {
		d.write("GET /small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		if resp, body := d.answer("GET"); body != "hi" || resp.Header.Get("Connection") != "keep-alive" {
			t.Errorf("%q, %v", body, resp)
		}
	}
	d.write("GET /small HTTP/1.0\r\n\r\n")
	d.answer("GET")
	d.ends()
}

// A client is asked for its body when somebody reads it, and only then.
func TestContinue(t *testing.T) {
	address := ourServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		seen(w, r)
	})
	d := dialTo(t, address)
	d.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := d.answer("POST"); resp.StatusCode != http.StatusContinue {
		t.Fatal(resp.Status)
	}
	d.write("hello")
	if _, body := d.answer("POST"); body != `POST / "hello"` {
		t.Error(body)
	}
	d.write("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := d.answer("POST"); resp.StatusCode != http.StatusForbidden || !resp.Close {
		t.Error(resp)
	}
	d.ends()
}

// A body that nobody reads doesn't become the next request.
func TestUnreadBodies(t *testing.T) {
	address := ourServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	d := dialTo(t, address)
	for _, body := range []string{"Content-Length: 29\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n", "Transfer-Encoding: chunked\r\n\r\n1d\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n"} {
		d.write("POST /good HTTP/1.1\r\nHost: a\r\n" + body)
		if _, got := d.answer("POST"); got != "/good" {
			t.Error(got)
		}
	}
	d.write("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
	if resp, _ := d.answer("POST"); !resp.Close {
		t.Error("the connection is kept")
	}
}

// A client that leaves ends the context of its request, and one that sends the next request
// meanwhile doesn't.
func TestClientLeaves(t *testing.T) {
	begun, ended := make(chan bool), make(chan bool)
	address := ourServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/wait" {
			return
		}
		begun <- true
		<-r.Context().Done()
		ended <- true
	})
	d := dialTo(t, address)
	d.write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	must(t, d.Close())
	<-ended
	d = dialTo(t, address)
	for range 3 {
		d.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		d.answer("GET")
	}
}

// Whoever is slow with a header is cut off.
func TestSlowHeader(t *testing.T) {
	s := &Server{Handler: http.NotFoundHandler(), MaxHeader: 1 << 10, HeaderTimeout: 50 * time.Millisecond, IdleTimeout: 100 * time.Millisecond, StallTimeout: time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	for _, begin := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX: "} {
		d := dialTo(t, l.Addr().String())
		d.write(begin)
		d.ends()
	}
	d := dialTo(t, l.Addr().String())
	d.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	d.answer("GET")
	d.ends() // it rests for too long
	must(t, s.Shutdown(t.Context()))
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// A server that is shut down answers what it has taken, and ends connections that rest.
func TestShutdown(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	s := &Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			begun <- true
			<-goOn
			_, _ = io.WriteString(w, "done")
		}),
		MaxHeader: 1 << 10, HeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, StallTimeout: 10 * time.Second,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	resting, working := dialTo(t, l.Addr().String()), dialTo(t, l.Addr().String())
	working.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	resting.ends()
	close(goOn)
	if resp, body := working.answer("GET"); body != "done" || !resp.Close {
		t.Errorf("%q, %v", body, resp)
	}
	must(t, <-down)
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still takes connections")
	}
}
