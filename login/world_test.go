package login

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/test/await"
	"mpr/test/engine"
	"mpr/token"
)

const (
	issuer   = "https://login.procore.com"
	apiDoor  = "https://api.procore.com"
	secret   = "the-internal-secret"
	callback = "https://app.example.com/callback?tenant=7"
	password = "correct horse battery"
)

// beforeSunset is when the rules of these tests are applied.
var beforeSunset = time.Date(2019, time.January, 15, 0, 0, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is a login service as it runs: a store on disk, a directory server, the buckets,
// a verifier that follows them, and both listeners.
type world struct {
	clock    *clock
	db       *store.DB
	server   *directory.Server
	nc       *nats.Conn
	changes  *directory.Changes
	verifier *token.Verifier
	service  *Service
	door     string // the login door, on plain HTTP
	internal string
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	t.Parallel() // most of a test's time is waiting for its end
	return newWorldOf(t, change...)
}

// newWorldOf makes a further world for a test.
func newWorldOf(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{clock: &clock{}, db: openStore(t)}
	var err error
	w.server, err = directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(w.server.Close)
	w.nc, err = w.server.Connect("login")
	must(t, err)
	t.Cleanup(w.nc.Close)
	w.changes = directory.OpenChanges(w.nc, "production", 1)
	buckets, err := token.OpenBuckets(t.Context(), w.nc, "production", 1)
	must(t, err)
	follower, err := token.Follow(t.Context(), w.nc, "production", filepath.Join(t.TempDir(), "keys"))
	must(t, err)
	t.Cleanup(func() { must(t, follower.Close()) })
	w.verifier = token.NewVerifier(issuer, follower, 1000, w.clock.now)

	door := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		problem.Handler(w.service.Handler()).ServeHTTP(rw, r)
	}))
	t.Cleanup(door.Close)
	internal := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		problem.Handler(w.service.Internal()).ServeHTTP(rw, r)
	}))
	t.Cleanup(internal.Close)
	w.door, w.internal = door.URL, internal.URL

	policy := rules.Seed()
	o := Options{
		Issuer: issuer, Product: "Procore",
		LoginURLs: map[string]string{w.door: w.door, issuer: issuer, apiDoor: issuer},
		DB:        w.db, Announcer: buckets, Revoker: buckets, Buckets: buckets, Changes: w.changes, Verifier: w.verifier,
		Policy: &policy, InForce: func() *rules.Policy { return &policy }, RulesNow: func() time.Time { return beforeSunset }, Secret: secret, Algorithm: "ES256",
		KeyDelay: time.Second, AccessLifetime: 5400 * time.Second, CodeLifetime: 10 * time.Minute,
		SessionLifetime: 12 * time.Hour, AttemptsPerMinute: 100, Now: w.clock.now,
	}
	for _, f := range change {
		f(&o)
	}
	w.service, err = New(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, w.service.Close()) })
	return w
}

// openStore opens an empty identity store.
func openStore(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), engine.Store(t), Migrations())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reply is what came back.
type reply struct {
	*http.Response
	body []byte
}

func (a reply) String() string { return fmt.Sprintf("%s %v\n%s", a.Status, a.Header, a.body) }

// want checks the status.
func (a reply) want(t *testing.T, status int) reply {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: want %d, got %v", a.Request.Method, a.Request.URL, status, a)
	}
	return a
}

// refused checks status and code of an error of an OAuth endpoint (RFC 6749 section 5.2).
func (a reply) refused(t *testing.T, status int, code string) reply {
	t.Helper()
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	a.want(t, status).json(t, &body)
	if body.Error != code {
		t.Errorf("want the error %s, got %s", code, a.body)
	}
	if body.Description == "" || strings.ContainsFunc(body.Description, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		t.Errorf("error_description has characters that RFC 6749 section 5.2 doesn't allow: %q", body.Description)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control of an error: %q", got)
	}
	return a
}

func (a reply) json(t *testing.T, v any) {
	t.Helper()
	if got := a.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("Content-Type %q", got)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// noRedirects answers redirects as they are.
var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func send(t *testing.T, client *http.Client, r *http.Request) reply {
	t.Helper()
	a, err := sendE(client, r)
	must(t, err)
	return a
}

func sendE(client *http.Client, r *http.Request) (reply, error) {
	resp, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	return reply{resp, body}, resp.Body.Close()
}

func newRequest(t *testing.T, method, to string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, body)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

const formType = "application/x-www-form-urlencoded"

// post posts a form to the login door.
func (w *world) post(t *testing.T, path string, form url.Values, header ...string) reply {
	t.Helper()
	return send(t, noRedirects, newRequest(t, http.MethodPost, w.door+path, strings.NewReader(form.Encode()), append([]string{"Content-Type", formType}, header...)...))
}

func (w *world) get(t *testing.T, path string, header ...string) reply {
	t.Helper()
	return send(t, noRedirects, newRequest(t, http.MethodGet, w.door+path, nil, header...))
}

// ask calls the internal listener with the internal secret.
func (w *world) ask(t *testing.T, method, path string, body any) reply {
	t.Helper()
	data, err := json.Marshal(body)
	must(t, err)
	return send(t, noRedirects, newRequest(t, method, w.internal+path, bytes.NewReader(data), "Authorization", "Bearer "+secret))
}

// newApp registers an app.
func (w *world) newApp(t *testing.T, kind string, uris ...string) (a app) {
	t.Helper()
	n := newApp{Name: "An app", Kind: kind, RedirectURIs: uris}
	if kind == kindTraditional {
		n.Company = 5
	}
	w.ask(t, http.MethodPost, "/internal/apps", n).want(t, http.StatusCreated).json(t, &a)
	return a
}

// newUser registers a person who can't sign in: hashing a password takes its time.
func (w *world) newUser(t *testing.T, login string) user { return w.register(t, login, "") }

// newPerson registers a person with the password [password].
func (w *world) newPerson(t *testing.T, login string) user { return w.register(t, login, password) }

func (w *world) register(t *testing.T, login, password string) (u user) {
	t.Helper()
	w.ask(t, http.MethodPost, "/internal/users", newUser{Login: login, Name: "A person", Password: password}).want(t, http.StatusCreated).json(t, &u)
	return u
}

// code makes an authorization code as the consent page does, without the page.
func (w *world) code(t *testing.T, a app, u user, challenge string) string {
	t.Helper()
	signedIn, err := w.service.userByID(t.Context(), u.ID)
	must(t, err)
	code, err := w.service.issueCode(t.Context(), &request{app: &a, redirectURI: callback, uriWasSent: true, challenge: challenge}, signedIn)
	must(t, err)
	return code
}

func credentials(a app) url.Values {
	form := url.Values{"client_id": {a.ClientID}}
	if a.ClientSecret != "" {
		form.Set("client_secret", a.ClientSecret)
	}
	return form
}

func codeForm(a app, code string) url.Values {
	form := credentials(a)
	form.Set("grant_type", "authorization_code")
	form.Set("code", code)
	form.Set("redirect_uri", callback)
	return form
}

func refreshForm(a app, refresh string) url.Values {
	form := credentials(a)
	form.Set("grant_type", "refresh_token")
	form.Set("refresh_token", refresh)
	return form
}

func machineForm(a app) url.Values {
	form := credentials(a)
	form.Set("grant_type", "client_credentials")
	return form
}

// tokens exchanges the form for tokens.
func (w *world) tokens(t *testing.T, form url.Values) (p tokenAnswer) {
	t.Helper()
	w.post(t, "/oauth/token", form).want(t, http.StatusOK).json(t, &p)
	return p
}

// userTokens are tokens by which a new app speaks for a new person.
func (w *world) userTokens(t *testing.T) (app, user, tokenAnswer) {
	t.Helper()
	a, u := w.newApp(t, kindWeb, callback), w.newUser(t, strings.ToLower(rand.Text())+"@example.com")
	return a, u, w.tokens(t, codeForm(a, w.code(t, a, u, "")))
}

// verify waits until verifiers know the key of a token, and answers what it says.
func (w *world) verify(t *testing.T, raw string) *token.Claims {
	t.Helper()
	var claims *token.Claims
	await.That(t, "the token verifies", func() (ok bool) {
		c, err := w.verifier.Verify(raw)
		claims = c
		return err == nil
	})
	return claims
}

// gone waits until verifiers refuse a token that they took before.
func (w *world) gone(t *testing.T, raw string) {
	t.Helper()
	began := time.Now()
	await.That(t, "the token is refused", func() bool { _, err := w.verifier.Verify(raw); return err != nil })
	// "Revocation reaches every gateway in under a second."
	if took := time.Since(began); took > time.Second {
		t.Errorf("the token was refused after %v", took)
	}
}

// change publishes changes as a region does.
func (w *world) change(t *testing.T, changes ...directory.Change) {
	t.Helper()
	must(t, w.changes.Publish(t.Context(), changes))
}

// indexed waits until the index has applied a version of a company.
func (w *world) indexed(t *testing.T, id company.ID, version int64) {
	t.Helper()
	w.ask(t, http.MethodGet, fmt.Sprintf("/internal/index/%d?version=%d&wait_ms=10000", id, version), nil).want(t, http.StatusOK)
}

// awayRevoker stands before the buckets and can cut them off: a broken connection to the
// directory takes seconds to be noticed, and this does not.
type awayRevoker struct {
	Revoker
	away atomic.Bool
}

func (a *awayRevoker) Revoke(ctx context.Context, grant string, until time.Time) error {
	if a.away.Load() {
		return problem.New(problem.DirectoryUnavailable, "The directory can't be reached.")
	}
	return a.Revoker.Revoke(ctx, grant, until)
}
