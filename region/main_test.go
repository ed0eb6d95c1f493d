package region_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/region"
	"mpr/rules"
	"mpr/store"
	"mpr/test/engine"
	"mpr/token"
)

const (
	code       = company.Region("EU01")
	number     = 17
	secret     = "the-internal-secret-of-the-tests"
	issuer     = "https://login.procore.com"
	maxBody    = 1 << 16
	maxPerPage = 50
)

// bus is the embedded directory server that all tests of the package share; each has an
// environment of its own in it.
var (
	bus          *nats.Conn
	environments atomic.Int64
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "region")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := directory.StartServer(directory.ServerOptions{Dir: dir})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	if bus, err = server.Connect("tests"); err != nil {
		panic(err)
	}
	defer bus.Close()
	return m.Run()
}

// world is a region with its two doors, and the login service's part in it: keys, tokens,
// ids of persons.
type world struct {
	t         *testing.T
	code      company.Region
	number    int
	dsn       string
	ring      *token.Ring
	verifier  *token.Verifier
	changes   *directory.Changes
	publisher *publisher
	identity  *identity
	db        *store.DB
	service   *region.Service
	door      string
	internal  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, code, number)
}

// newWorldOf is newWorld of another region.
func newWorldOf(t *testing.T, code company.Region, number int) *world {
	t.Helper()
	environment := fmt.Sprintf("production-%d", environments.Add(1))
	buckets, err := token.OpenBuckets(t.Context(), bus, environment, 1)
	check(t, err)
	w := &world{t: t, code: code, number: number, dsn: engine.Store(t), identity: &identity{next: 1 << 40}}
	w.ring, err = token.NewRing(t.Context(), &keys{}, buckets, token.RingOptions{Algorithm: "ES256", Lifetime: time.Hour, Now: time.Now})
	check(t, err)
	t.Cleanup(func() { check(t, w.ring.Close()) })
	follower, err := token.Follow(t.Context(), bus, environment, filepath.Join(t.TempDir(), "keys"))
	check(t, err)
	t.Cleanup(func() { check(t, follower.Close()) })
	check(t, follower.Ready(t.Context()))
	w.verifier = token.NewVerifier(issuer, follower, 1000, time.Now)
	w.changes = directory.OpenChanges(bus, environment, 1)
	w.publisher = &publisher{to: w.changes}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) open() *store.DB {
	w.t.Helper()
	db, err := store.Open(w.t.Context(), w.dsn, region.Migrations())
	check(w.t, err)
	return db
}

func (w *world) options() region.Options {
	policy := rules.Seed()
	return region.Options{
		Code: w.code, Number: w.number, DB: w.db, Verifier: w.verifier, Policy: &policy, Publisher: w.publisher, Identity: w.identity,
		Secret: secret, MaxBody: maxBody, MaxPerPage: maxPerPage, Now: time.Now,
	}
}

func (w *world) start() {
	w.t.Helper()
	w.db = w.open()
	var err error
	w.service, err = region.New(w.t.Context(), w.options())
	check(w.t, err)
	door := httptest.NewServer(problem.Handler(w.service.Handler()))
	internal := httptest.NewServer(problem.Handler(w.service.Internal()))
	w.t.Cleanup(door.Close)
	w.t.Cleanup(internal.Close)
	w.door, w.internal = door.URL, internal.URL
}

func (w *world) stop() {
	check(w.t, w.service.Close())
	check(w.t, w.db.Close())
}

// keys keeps signing keys in memory.
type keys struct{ all []token.StoredKey }

func (k *keys) SigningKeys(context.Context) ([]token.StoredKey, error) { return k.all, nil }

func (k *keys) AddSigningKey(_ context.Context, key token.StoredKey, _ bool) error {
	k.all = append(k.all, key)
	return nil
}

func (k *keys) DeleteSigningKey(context.Context, string) error { return nil }

// publisher hands changes to the real stream. It can be cut off, and then count how often
// it is tried.
type publisher struct {
	to    *directory.Changes
	away  atomic.Bool
	tries atomic.Int64
	made  atomic.Pointer[time.Time] // when another stream was made, in place of the one that there is
}

var errAway = errors.New("the directory is away")

func (p *publisher) Publish(ctx context.Context, changes []directory.Change) error {
	p.tries.Add(1)
	if p.away.Load() {
		return errAway
	}
	return p.to.Publish(ctx, changes)
}

func (p *publisher) Made(ctx context.Context) (time.Time, error) {
	if p.away.Load() {
		return time.Time{}, errAway
	}
	if at := p.made.Load(); at != nil {
		return *at, nil
	}
	return p.to.Made(ctx)
}

// identity gives out ids of persons, as the login service does.
type identity struct {
	next  int64
	known map[string]int64
	err   error
}

func (i *identity) EnsureUser(_ context.Context, login, _ string) (int64, error) {
	if i.err != nil {
		return 0, i.err
	}
	if i.known == nil {
		i.known = map[string]int64{}
	}
	if i.known[login] == 0 {
		i.next++
		i.known[login] = i.next
	}
	return i.known[login], nil
}

// Who calls in most tests.
const (
	alice  = int64(11)
	webApp = int64(21)
)

// user is a token of a person's, through the web app.
func (w *world) user(id int64) string {
	return w.token(token.Claims{Subject: id, App: webApp, Kind: rules.UserToken})
}

// managed is a token of a developer-managed service account.
func (w *world) managed(app int64) string {
	return w.token(token.Claims{Subject: app, App: app, Kind: rules.DeveloperManagedToken})
}

func (w *world) token(c token.Claims) string {
	w.t.Helper()
	now := time.Now()
	c.Issuer, c.ClientID, c.Grant, c.ID = issuer, "client", "grant", strconv.FormatInt(now.UnixNano(), 36)
	c.IssuedAt, c.Expires = now, now.Add(time.Hour)
	raw, err := w.ring.Sign(c)
	check(w.t, err)
	return raw
}

// newCompany makes a company with the member alice and the web app.
func (w *world) newCompany(key string) company.ID {
	w.t.Helper()
	var made struct{ ID company.ID }
	w.admin("POST", "/internal/companies", fmt.Sprintf(`{"name":"Company %s","onboarded":"2016-03-01","idempotency_key":%q}`, key, key)).want(201).into(&made)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/users/%d", made.ID, alice), `{"login":"alice@example.com","name":"Alice Ng"}`).want(200)
	w.admin("PUT", fmt.Sprintf("/internal/companies/%d/apps/%d", made.ID, webApp), `{"client_id":"web","name":"Web","kind":"web"}`).want(200)
	return made.ID
}

// as makes calls for a company, at epoch 1.
func (w *world) as(raw string, id company.ID) caller { return caller{w, raw, id, 1} }

type caller struct {
	w     *world
	token string
	id    company.ID
	epoch company.Epoch
}

// in is the same caller in a subtest.
func (c caller) in(t *testing.T) caller {
	w := *c.w
	w.t, c.w = t, &w
	return c
}

func (c caller) get(path string) answer                { return c.send("GET", path, "") }
func (c caller) post(path, body string) answer         { return c.send("POST", path, body) }
func (c caller) patch(path, body string) answer        { return c.send("PATCH", path, body) }
func (c caller) delete(path string) answer             { return c.send("DELETE", path, "") }
func (c caller) send(method, path, body string) answer { return c.sendWith(method, path, body, nil) }

// sendWith sends headers besides; an empty value takes one away.
func (c caller) sendWith(method, path, body string, header map[string]string) answer {
	c.w.t.Helper()
	h := http.Header{"Authorization": {"Bearer " + c.token}, "Procore-Company-Id": {c.id.String()}, "Mpr-Epoch": {strconv.FormatInt(int64(c.epoch), 10)}}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if h.Set(name, value); value == "" {
			h.Del(name)
		}
	}
	return c.w.call(method, c.w.door+path, body, h)
}

// admin calls the internal listener.
func (w *world) admin(method, path, body string) answer {
	w.t.Helper()
	h := http.Header{"Authorization": {"Bearer " + secret}}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	return w.call(method, w.internal+path, body, h)
}

func (w *world) call(method, to, body string, h http.Header) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, to, strings.NewReader(body))
	check(w.t, err)
	req.Header = h
	resp, err := client.Do(req)
	check(w.t, err)
	data, err := io.ReadAll(resp.Body)
	check(w.t, errors.Join(err, resp.Body.Close()))
	return answer{w.t, method + " " + strings.TrimPrefix(strings.TrimPrefix(to, w.door), w.internal), resp.StatusCode, resp.Header, data}
}

// client follows no redirects: a region answers none.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

type answer struct {
	t      *testing.T
	asked  string
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%s: %d %s", a.asked, a.status, a.body) }

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%v; want %d", a, status)
	}
	return a
}

// expect is want for other goroutines than the test's, which must not end it.
func (a answer) expect(status int) {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%v; want %d", a, status)
	}
}

// refused wants a refusal, and answers which fields it complains of.
func (a answer) refused(status int, code problem.Code) map[string][]string {
	a.t.Helper()
	var refusal struct {
		Code      problem.Code
		Message   string
		Errors    map[string][]string
		RequestID string `json:"request_id"`
	}
	a.want(status).into(&refusal)
	if refusal.Code != code || refusal.Message == "" || refusal.RequestID != a.header.Get("X-Request-Id") {
		a.t.Fatalf("%v; want the code %s, a message and the request's id", a, code)
	}
	return refusal.Errors
}

func (a answer) into(v any) answer {
	a.t.Helper()
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(v); err != nil {
		a.t.Fatalf("%v: %v", a, err)
	}
	return a
}

// object is what the answers of all resources have in common.
type object struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Subject string `json:"subject"`
}

func (a answer) object() (o object) { a.t.Helper(); a.into(&o); return o }

func (a answer) ids() []int64 {
	a.t.Helper()
	var all []object
	a.want(200).into(&all)
	ids := []int64{}
	for _, o := range all {
		ids = append(ids, o.ID)
	}
	return ids
}

// links are the targets of the Link header, by rel.
func (a answer) links() map[string]*url.URL {
	a.t.Helper()
	links := map[string]*url.URL{}
	for _, link := range strings.Split(a.header.Get("Link"), ", ") {
		target, rel, ok := strings.Cut(link, ">; rel=")
		u, err := url.Parse(strings.TrimPrefix(target, "<"))
		if !ok || err != nil {
			a.t.Fatalf("%s: the Link header %q", a.asked, a.header.Get("Link"))
		}
		links[strings.Trim(rel, `"`)] = u
	}
	return links
}

// newProject makes a project and answers its id.
func (c caller) newProject(name string) int64 {
	c.w.t.Helper()
	return c.post("/rest/v1.0/projects", fmt.Sprintf(`{"company_id":%d,"project":{"name":%q}}`, c.id, name)).want(201).object().ID
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("in 20 s not: %s", what)
		case <-tick.C:
		}
	}
}

// count reads one number from the database.
func (w *world) count(query string, args ...any) (n int64) {
	w.t.Helper()
	check(w.t, w.db.Read().QueryRowContext(w.t.Context(), query, args...).Scan(&n))
	return n
}

// exec changes the database behind the region's back, as another process could.
func (w *world) exec(statement string, args ...any) {
	w.t.Helper()
	check(w.t, w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(w.t.Context(), statement, args...)
		return err
	}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
