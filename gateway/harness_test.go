package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/directory"
	"mpr/gateway/http1"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// The companies of the tests.
const (
	inUS01  = company.ID(4711)            // since 2015: the legacy door reaches it
	inEU01  = company.ID(598134325779301) // a published id
	inDead  = company.ID(5)               // its region doesn't answer
	nowhere = company.ID(999)
)

const issuer = "https://login.procore.com"

// gate is a gateway on a real directory and real tokens, before upstreams of the test.
type gate struct {
	t         testing.TB
	service   *Service
	directory *directory.Directory
	replica   *directory.Replica
	ring      *token.Ring
	api       *front
	legacy    *front
	user      string // an access token of a person
}

// setup changes what a gate is made of.
type setup func(*Options)

// handlers are the upstreams of a gate, by name: region codes, "identity" and "login".
type handlers map[string]http.HandlerFunc

// numbers are those of the regions that tests use.
var numbers = map[string]int{"US01": 0, "US02": 16, "EU01": 17, "DE01": 18}

func start(t testing.TB, upstreams handlers, setups ...setup) *gate {
	t.Helper()
	ctx := t.Context()
	server, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Close)
	nc, err := server.Connect("test")
	must(t, err)
	t.Cleanup(nc.Close)
	g := &gate{t: t}
	g.directory, err = directory.Open(ctx, nc, "test", 1)
	must(t, err)
	urls := map[string]string{"identity": "http://127.0.0.1:1", "login": "http://127.0.0.1:1"}
	for name, h := range upstreams {
		urls[name] = g.upstream(h)
	}
	for name, url := range urls {
		if name != "identity" && name != "login" {
			must(t, g.directory.PutRegion(ctx, company.RegionInfo{Code: company.Region(name), Number: numbers[name], Upstreams: []string{url}}))
		}
	}
	must(t, g.directory.PutRegion(ctx, company.RegionInfo{Code: "DE01", Number: numbers["DE01"], Upstreams: []string{"http://" + closedPort(t)}}))
	early := time.Date(2015, 5, 4, 0, 0, 0, 0, time.UTC)
	for id, region := range map[company.ID]company.Region{inUS01: "US01", inEU01: "EU01", inDead: "DE01"} {
		must(t, g.directory.Create(ctx, company.Placement{Company: id, Region: region, Epoch: 3, Onboarded: early}))
	}
	g.replica, err = directory.OpenReplica(nc, "test", filepath.Join(t.TempDir(), "replica"))
	must(t, err)
	closeLater(t, g.replica)
	must(t, g.replica.Ready(ctx))
	verifier := g.tokens(nc)
	policy := rules.Seed()
	o := Options{
		Policy: func() *rules.Policy { return &policy }, Placements: g.replica, Verifier: verifier,
		IdentityURL: urls["identity"], LoginURL: urls["login"],
		Limits: Limits{
			MaxBody: 1 << 30, IdleTimeout: 10 * time.Second, StallTimeout: 10 * time.Second,
			ConnectTimeout: 3 * time.Second, AnswerTimeout: 20 * time.Second, HoldTimeout: 10 * time.Second, HoldCalls: 100, UpstreamConns: 64,
		},
		Now: func() time.Time { return time.Date(2019, 6, 30, 23, 59, 59, 0, time.UTC) },
	}
	for _, s := range setups {
		s(&o)
	}
	g.service, err = New(o)
	must(t, err)
	closeLater(t, g.service)
	g.api, g.legacy = g.serve(rules.DoorAPI), g.serve(rules.DoorLegacy)
	return g
}

// tokens makes signing keys, a token, and what verifies it.
func (g *gate) tokens(nc *nats.Conn) *token.Verifier {
	t, ctx := g.t, g.t.Context()
	buckets, err := token.OpenBuckets(ctx, nc, "test", 1)
	must(t, err)
	g.ring, err = token.NewRing(ctx, &keys{}, buckets, token.RingOptions{Algorithm: "ES256", Lifetime: time.Hour, Now: time.Now})
	must(t, err)
	closeLater(t, g.ring)
	follower, err := token.Follow(ctx, nc, "test", filepath.Join(t.TempDir(), "keys"))
	must(t, err)
	closeLater(t, follower)
	must(t, follower.Ready(ctx))
	g.user = g.sign(rules.UserToken, 0)
	verifier := token.NewVerifier(issuer, follower, 100, time.Now)
	for deadline := time.Now().Add(10 * time.Second); ; { // until the key has arrived
		if _, err := verifier.Verify(g.user); err == nil {
			return verifier
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (g *gate) sign(kind rules.TokenKind, only company.ID) string {
	g.t.Helper()
	return g.signFor("client", kind, only)
}

// signFor signs a token of an app.
func (g *gate) signFor(app string, kind rules.TokenKind, only company.ID) string {
	g.t.Helper()
	now := time.Now().Truncate(time.Second)
	raw, err := g.ring.Sign(token.Claims{
		Issuer: issuer, Subject: 7, ClientID: app, App: 1, Kind: kind, Company: only,
		Grant: "grant", ID: problem.NewRequestID(), IssuedAt: now, Expires: now.Add(time.Hour),
	})
	must(g.t, err)
	return raw
}

// upstream serves a handler and returns its base URL.
func (g *gate) upstream(h http.Handler) string {
	s := httptest.NewServer(h)
	g.t.Cleanup(s.Close)
	return s.URL
}

func (g *gate) serve(door rules.Door) *front {
	return serveDoor(g.t, &http1.Server{Handler: problem.Handler(problem.LimitHeader(g.service.Handler(door), 32<<10)), MaxHeader: 128 << 10})
}

// front is a server of ours where the tests call it.
type front struct {
	URL      string
	Listener net.Listener
	server   *http1.Server
	client   *http.Client
}

func (d *front) Client() *http.Client { return d.client }

func serveDoor(t testing.TB, s *http1.Server) *front {
	t.Helper()
	s.HeaderTimeout, s.IdleTimeout, s.StallTimeout = 10*time.Second, time.Minute, 10*time.Second
	s.Refused = func(w http.ResponseWriter, r *http.Request, e *http1.Error) {
		w.Header().Set(problem.RequestIDHeader, problem.NewRequestID())
		http.Error(w, e.Reason, e.Status)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	d := &front{URL: "http://" + l.Addr().String(), Listener: l, server: s, client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("calls are still running: %v", err)
			_ = s.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return d
}

// secure serves the api door over TLS with HTTP/2, and returns a client and the base URL.
func (g *gate) secure() (*http.Client, string) {
	s := httptest.NewUnstartedServer(problem.Handler(g.service.Handler(rules.DoorAPI)))
	s.EnableHTTP2 = true
	s.StartTLS()
	g.t.Cleanup(s.Close)
	return s.Client(), s.URL
}

// headers of a call into a company with the user's token; extra pairs come on top.
func (g *gate) header(id company.ID, pairs ...string) http.Header {
	h := http.Header{"Authorization": {"Bearer " + g.user}}
	if id != 0 {
		h.Set("Procore-Company-Id", id.String())
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// reply is an answer with its body read.
type reply struct {
	*http.Response
	body string
}

// send makes a call at the api door.
func (g *gate) send(method, target string, h http.Header, body io.Reader) reply {
	g.t.Helper()
	return do(g.t, g.api.Client(), request(g.t, method, g.api.URL+target, h, body))
}

func request(t testing.TB, method, url string, h http.Header, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	must(t, err)
	r.Header = h
	return r
}

func do(t testing.TB, client *http.Client, r *http.Request) reply {
	t.Helper()
	resp, err := client.Do(r)
	must(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	must(t, err)
	return reply{resp, string(content)}
}

// want checks status and, for a refusal, its code.
func (r reply) want(t testing.TB, status int, code problem.Code) {
	t.Helper()
	var refusal struct {
		Code      problem.Code
		Message   string
		RequestID string `json:"request_id"`
	}
	if r.StatusCode != status {
		t.Fatalf("status %d, want %d: %.500s", r.StatusCode, status, r.body)
	}
	if code == "" {
		return
	}
	if err := json.Unmarshal([]byte(r.body), &refusal); err != nil || refusal.Code != code {
		t.Fatalf("want the code %s in %s", code, r.body)
	}
	if refusal.Message == "" || refusal.RequestID == "" || refusal.RequestID != r.Header.Get("X-Request-Id") {
		t.Fatalf("a refusal without message or request id: %s", r.body)
	}
}

// wire is a client that writes its requests by hand.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (g *gate) dial() *wire { return dialTo(g.t, g.api.Listener.Addr().String()) }

func dialTo(t testing.TB, address string) *wire {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return &wire{t, conn, bufio.NewReader(conn)}
}

// head writes a request line and headers; the token and the host are added.
func (w *wire) head(g *gate, line string, headers ...string) {
	w.t.Helper()
	all := append([]string{line + " HTTP/1.1", "Host: api.procore.com", "Authorization: Bearer " + g.user}, headers...)
	w.write(strings.Join(all, "\r\n") + "\r\n\r\n")
}

func (w *wire) write(s string) {
	w.t.Helper()
	_, err := io.WriteString(w, s)
	must(w.t, err)
}

// answer reads the header of an answer; its body can be read from it.
func (w *wire) answer(method string) *http.Response {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	must(w.t, err)
	return resp
}

// ends waits until the gateway closes the connection.
func (w *wire) ends() {
	w.t.Helper()
	if _, err := io.Copy(io.Discard, w.r); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		w.t.Fatal("the connection stays open")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// keys is a key store in memory: what the login service keeps in SQL.
type keys struct {
	mu   sync.Mutex
	keys []token.StoredKey
}

func (k *keys) SigningKeys(context.Context) ([]token.StoredKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]token.StoredKey(nil), k.keys...), nil
}

func (k *keys) AddSigningKey(_ context.Context, key token.StoredKey, first bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !first || len(k.keys) == 0 {
		k.keys = append(k.keys, key)
	}
	return nil
}

func (k *keys) DeleteSigningKey(context.Context, string) error { return nil }

// closedPort is an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// hang keeps a handler busy until its caller goes away.
func hang(r *http.Request) { <-r.Context().Done() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closeLater(t testing.TB, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// arrives waits for a value from another goroutine.
func arrives[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s doesn't come", what)
		panic("unreachable")
	}
}

// echo answers with what it got: method, target, headers and body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.RequestURI)
	must2(r.Header.Write(&b))
	for name, values := range r.Trailer {
		fmt.Fprintf(&b, "trailer %s: %s\r\n", name, strings.Join(values, "|"))
	}
	fmt.Fprintf(&b, "Host: %s\r\n\n%s", r.Host, body)
	must2(w.Write(b.Bytes()))
}

// must2 panics where an in-memory or loopback write fails; net/http reports it.
func must2(results ...any) {
	if err, ok := results[len(results)-1].(error); ok && err != nil {
		panic(err)
	}
}
