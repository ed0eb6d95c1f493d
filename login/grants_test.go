package login

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpr/test/await"
	"mpr/token"
)

// The verifier of RFC 7636 appendix B.
const codeVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestRefusedCodes(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newUser(t, "a@example.com")
	thief := w.newApp(t, kindWeb, callback)
	for name, change := range map[string]func(form url.Values){
		"none":                     func(f url.Values) { f.Del("code") },
		"unknown":                  func(f url.Values) { f.Set("code", "x") },
		"NUL":                      func(f url.Values) { f.Set("code", "\x00") },
		"another redirect URI":     func(f url.Values) { f.Set("redirect_uri", callback+"&x=1") },
		"no redirect URI":          func(f url.Values) { f.Del("redirect_uri") },
		"verifier, no challenge":   func(f url.Values) { f.Set("code_verifier", codeVerifier) },
		"of another app":           func(f url.Values) { f.Set("client_id", thief.ClientID); f.Set("client_secret", thief.ClientSecret) },
		"without the app's secret": func(f url.Values) { f.Del("client_secret") },
	} {
		t.Run(name, func(t *testing.T) {
			form := codeForm(a, w.code(t, a, u, ""))
			change(form)
			status, code := 400, "invalid_grant"
			switch {
			case !form.Has("code"):
				code = "invalid_request"
			case !form.Has("client_secret"):
				status, code = 401, "invalid_client"
			}
			w.post(t, "/oauth/token", form).refused(t, status, code)
		})
	}
	// Another app that has a code doesn't use it up.
	code := w.code(t, a, u, "")
	w.post(t, "/oauth/token", codeForm(thief, code)).refused(t, 400, "invalid_grant")
	w.tokens(t, codeForm(a, code))
}

// "Codes are single-use and live 10 minutes."
func TestCodesExpire(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newUser(t, "a@example.com")
	late, inTime := w.code(t, a, u, ""), w.code(t, a, u, "")
	w.clock.advance(9*time.Minute + 50*time.Second)
	w.tokens(t, codeForm(a, inTime))
	w.clock.advance(11 * time.Second)
	w.post(t, "/oauth/token", codeForm(a, late)).refused(t, 400, "invalid_grant")
}

// RFC 6749 section 4.1.2: a code that comes twice is refused, and what it was exchanged
// for is revoked.
func TestCodeReuseRevokes(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newUser(t, "a@example.com")
	form := codeForm(a, w.code(t, a, u, ""))
	p := w.tokens(t, form)
	w.verify(t, p.AccessToken)
	form.Set("redirect_uri", callback+"x") // which doesn't hide that the code has come before
	w.post(t, "/oauth/token", form).refused(t, 400, "invalid_grant")
	w.gone(t, p.AccessToken)
	w.post(t, "/oauth/token", refreshForm(a, p.RefreshToken)).refused(t, 400, "invalid_grant")
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).refused(t, 401, "invalid_token")
}

// PKCE, RFC 7636: required for public clients, checked where it is used.
func TestProofKeys(t *testing.T) {
	w := newWorld(t)
	u := w.newUser(t, "a@example.com")
	for _, kind := range []string{kindInstalled, kindWeb} {
		a := w.newApp(t, kind, callback)
		for name, verifier := range map[string]string{"none": "", "wrong": strings.Repeat("x", 43), "the challenge": challengeOf(codeVerifier), "cut off": codeVerifier[:42]} {
			form := codeForm(a, w.code(t, a, u, challengeOf(codeVerifier)))
			if verifier != "" {
				form.Set("code_verifier", verifier)
			}
			w.post(t, "/oauth/token", form).refused(t, 400, "invalid_grant")
			form.Set("code_verifier", codeVerifier)
			if got := w.post(t, "/oauth/token", form); got.StatusCode == http.StatusOK {
				t.Errorf("%s, %s: a code could be tried twice", kind, name)
			}
		}
		form := codeForm(a, w.code(t, a, u, challengeOf(codeVerifier)))
		form.Set("code_verifier", codeVerifier)
		p := w.tokens(t, form)
		w.tokens(t, refreshForm(a, p.RefreshToken)) // a public client's as well, without a secret
	}
}

// "A refresh token is single-use: each refresh answers with a new pair and invalidates the
// old refresh token at once. It has no fixed expiry."
func TestRefresh(t *testing.T) {
	w := newWorld(t)
	a, u, first := w.userTokens(t)
	w.clock.advance(400 * 24 * time.Hour)
	second := w.tokens(t, refreshForm(a, first.RefreshToken))
	if second.AccessToken == first.AccessToken || second.RefreshToken == first.RefreshToken || second.ExpiresIn != 5400 {
		t.Errorf("the second pair: %+v", second)
	}
	if c := w.verify(t, second.AccessToken); c.Subject != u.ID || c.App != a.ID {
		t.Errorf("claims %+v", c)
	}
	third := w.tokens(t, refreshForm(a, second.RefreshToken))
	w.verify(t, third.AccessToken)

	got := w.post(t, "/oauth/token", refreshForm(a, first.RefreshToken)).refused(t, 400, "invalid_grant")
	if !strings.Contains(string(got.body), `"The refresh token is invalid"`) {
		t.Errorf("clients don't know these words: %s", got.body)
	}
	// The family is revoked: all access tokens, and the refresh token that was good so far.
	w.gone(t, second.AccessToken)
	w.gone(t, third.AccessToken)
	w.post(t, "/oauth/token", refreshForm(a, third.RefreshToken)).refused(t, 400, "invalid_grant")
}

func TestRefusedRefreshTokens(t *testing.T) {
	w := newWorld(t)
	a, _, p := w.userTokens(t)
	thief := w.newApp(t, kindWeb, callback)
	w.post(t, "/oauth/token", refreshForm(a, "")).refused(t, 400, "invalid_request")
	w.post(t, "/oauth/token", refreshForm(a, "x")).refused(t, 400, "invalid_grant")
	w.post(t, "/oauth/token", refreshForm(a, p.AccessToken)).refused(t, 400, "invalid_grant")
	w.post(t, "/oauth/token", refreshForm(thief, p.RefreshToken)).refused(t, 400, "invalid_grant")
	w.tokens(t, refreshForm(a, p.RefreshToken)) // the thief has neither used it up nor revoked it
}

// "optional grace in which a repeated refresh answers the very same pair"
func TestRefreshGrace(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RefreshGrace = 10 * time.Second })
	a, _, first := w.userTokens(t)
	second := w.tokens(t, refreshForm(a, first.RefreshToken))
	w.clock.advance(9 * time.Second)
	if again := w.tokens(t, refreshForm(a, first.RefreshToken)); again != second {
		t.Errorf("the repeated refresh answered %+v, the first one %+v", again, second)
	}
	// What is kept for that can't be read without the refresh token.
	var kept string
	must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT answer FROM refresh_tokens WHERE used > 0`).Scan(&kept))
	raw, err := base64.RawStdEncoding.DecodeString(kept)
	must(t, err)
	if strings.Contains(string(raw), second.RefreshToken) || strings.Contains(string(raw), "access_token") {
		t.Error("the store holds the pair in the clear")
	}
	w.clock.advance(2 * time.Second)
	w.post(t, "/oauth/token", refreshForm(a, first.RefreshToken)).refused(t, 400, "invalid_grant")
	w.gone(t, second.AccessToken)
	w.post(t, "/oauth/token", refreshForm(a, second.RefreshToken)).refused(t, 400, "invalid_grant")
}

// race sends one form many times at once.
func (w *world) race(t *testing.T, form url.Values) (pairs []tokenAnswer) {
	t.Helper()
	const racers = 24
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for range racers {
		r := newRequest(t, http.MethodPost, w.door+"/oauth/token", strings.NewReader(form.Encode()), "Content-Type", formType)
		wg.Go(func() {
			<-start
			got, err := sendE(noRedirects, r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if got.StatusCode == http.StatusOK {
				var p tokenAnswer
				got.json(t, &p)
				pairs = append(pairs, p)
			} else if got.StatusCode != http.StatusBadRequest {
				t.Errorf("a loser got %v", got)
			}
		})
	}
	close(start)
	wg.Wait()
	return pairs
}

func TestOneWinsTheRace(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newUser(t, "a@example.com")
	if pairs := w.race(t, codeForm(a, w.code(t, a, u, ""))); len(pairs) != 1 {
		t.Errorf("one code won %d pairs", len(pairs))
	}
	if pairs := w.race(t, refreshForm(a, w.tokens(t, codeForm(a, w.code(t, a, u, ""))).RefreshToken)); len(pairs) != 1 {
		t.Errorf("one refresh token won %d pairs", len(pairs))
	}
}

func TestRaceWithinTheGrace(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RefreshGrace = time.Minute })
	a, _, p := w.userTokens(t)
	pairs := w.race(t, refreshForm(a, p.RefreshToken))
	if len(pairs) != 24 {
		t.Fatalf("%d of 24 got a pair", len(pairs))
	}
	for _, pair := range pairs {
		if pair != pairs[0] {
			t.Fatalf("two pairs: %+v and %+v", pair, pairs[0])
		}
	}
	w.tokens(t, refreshForm(a, pairs[0].RefreshToken))
}

// A refresh that races with a revocation must not bring a token that the revocation
// doesn't reach.
func TestRefreshAgainstRevocation(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		a, _, p := w.userTokens(t)
		revoke := credentials(a)
		revoke.Set("token", p.RefreshToken)
		var wg sync.WaitGroup
		var next atomic.Pointer[tokenAnswer]
		refresh := newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(refreshForm(a, p.RefreshToken).Encode()), "Content-Type", formType)
		end := newRequest(t, "POST", w.door+"/oauth/revoke", strings.NewReader(revoke.Encode()), "Content-Type", formType)
		wg.Go(func() {
			got, err := sendE(noRedirects, refresh)
			if err != nil {
				t.Error(err)
			} else if got.StatusCode == http.StatusOK {
				var p tokenAnswer
				got.json(t, &p)
				next.Store(&p)
			}
		})
		wg.Go(func() {
			if got, err := sendE(noRedirects, end); err != nil || got.StatusCode != http.StatusOK {
				t.Errorf("revoke: %v %v", got, err)
			}
		})
		wg.Wait()
		if p := next.Load(); p != nil {
			w.gone(t, p.AccessToken)
			w.post(t, "/oauth/token", refreshForm(a, p.RefreshToken)).refused(t, 400, "invalid_grant")
		}
	}
}

// A grant that was revoked between two statements of a refresh is not extended.
func TestRevokedGrantIsNotExtended(t *testing.T) {
	w := newWorld(t)
	_, _, p := w.userTokens(t)
	grant := w.verify(t, p.AccessToken).Grant
	must(t, w.db.Write(t.Context(), func(tx *sql.Tx) error {
		if err := revokeGrant(t.Context(), tx, grant, w.clock.now()); err != nil {
			return err
		}
		alive, err := w.service.extendGrant(t.Context(), tx, grant, w.clock.now())
		if alive {
			t.Error("a revoked grant was extended")
		}
		return err
	}))
}

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	for _, which := range []string{"access", "refresh"} {
		for _, encoding := range []string{"form", "multipart", "JSON"} {
			a, _, p := w.userTokens(t)
			w.verify(t, p.AccessToken)
			form := credentials(a)
			form.Set("token", map[string]string{"access": p.AccessToken, "refresh": p.RefreshToken}[which])
			var r *http.Request
			switch encoding {
			case "form":
				r = newRequest(t, "POST", w.door+"/oauth/revoke/", strings.NewReader(form.Encode()), "Content-Type", formType)
			case "multipart":
				body, boundary := multipartForm(t, form)
				r = newRequest(t, "POST", w.door+"/oauth/revoke", body, "Content-Type", boundary)
			case "JSON":
				r = newRequest(t, "POST", w.door+"/oauth/revoke", strings.NewReader(jsonBody(t, form)), "Content-Type", "application/json")
			}
			var empty map[string]any
			send(t, noRedirects, r).want(t, 200).json(t, &empty) // the JavaScript SDK parses it
			w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).refused(t, 401, "invalid_token")
			w.gone(t, p.AccessToken)
			w.post(t, "/oauth/token", refreshForm(a, p.RefreshToken)).refused(t, 400, "invalid_grant")
			w.post(t, "/oauth/revoke", form).want(t, 200) // again
		}
	}
}

func TestRevokeRefusals(t *testing.T) {
	w := newWorld(t)
	a, _, p := w.userTokens(t)
	thief := w.newApp(t, kindWeb, callback)
	revoke := func(by app, what string) reply {
		form := credentials(by)
		form.Set("token", what)
		return w.post(t, "/oauth/revoke", form)
	}
	// "200 also for an unknown token (RFC 7009)"
	revoke(a, "unknown").want(t, 200)
	revoke(a, "").refused(t, 400, "invalid_request")
	revoke(app{ClientID: a.ClientID, ClientSecret: "wrong"}, p.AccessToken).refused(t, 401, "invalid_client")
	revoke(app{}, p.AccessToken).refused(t, 401, "invalid_client")
	// "the authorization server [...] verifies whether the token was issued to the client
	// making the revocation request" (section 2.1)
	revoke(thief, p.AccessToken).want(t, 200)
	revoke(thief, p.RefreshToken).want(t, 200)
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).want(t, 200)
	w.tokens(t, refreshForm(a, p.RefreshToken))

	public, u := w.newApp(t, kindInstalled, callback), w.newUser(t, "b@example.com")
	form := codeForm(public, w.code(t, public, u, challengeOf(codeVerifier)))
	form.Set("code_verifier", codeVerifier)
	q := w.tokens(t, form)
	w.verify(t, q.AccessToken)
	revoke(public, q.RefreshToken).want(t, 200)
	w.gone(t, q.AccessToken)
}

// A directory that is away delays the news of a revocation; it doesn't lose it, and the
// login door heeds it at once.
func TestRevocationWaitsForTheDirectory(t *testing.T) {
	away := &awayRevoker{}
	w := newWorld(t, func(o *Options) { away.Revoker, o.Revoker = o.Revoker, away })
	a, _, p := w.userTokens(t)
	grant := w.verify(t, p.AccessToken).Grant
	away.away.Store(true)
	form := credentials(a)
	form.Set("token", p.AccessToken)
	w.post(t, "/oauth/revoke", form).want(t, 200)
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).refused(t, 401, "invalid_token")
	if _, err := w.verifier.Verify(p.AccessToken); err != nil {
		t.Fatalf("grant %s was published: %v", grant, err)
	}
	away.away.Store(false)
	await.That(t, "the revocation is published", func() bool { _, err := w.verifier.Verify(p.AccessToken); return err != nil })
}

func TestTokenInfo(t *testing.T) {
	w := newWorld(t)
	a, u, p := w.userTokens(t)
	w.verify(t, p.AccessToken)
	var info struct {
		Owner       int64    `json:"resource_owner_id"`
		Scope       []string `json:"scope"`
		Left        int64    `json:"expires_in"`
		LeftSeconds int64    `json:"expires_in_seconds"`
		Application struct {
			UID string `json:"uid"`
		} `json:"application"`
		CreatedAt int64 `json:"created_at"`
	}
	w.clock.advance(10 * time.Second)
	w.get(t, "/oauth/token/info/", "Authorization", "bearer "+p.AccessToken).want(t, 200).json(t, &info)
	if info.Owner != u.ID || info.Application.UID != a.ClientID || info.CreatedAt != p.CreatedAt || info.Scope == nil ||
		info.Left != info.LeftSeconds || info.Left > 5390 || info.Left < 5300 {
		t.Errorf("info %+v", info)
	}
	for name, header := range map[string][]string{
		"none":          {},
		"Basic":         {"Authorization", basic(a.ClientID, a.ClientSecret)},
		"rubbish":       {"Authorization", "Bearer rubbish"},
		"tampered":      {"Authorization", "Bearer " + p.AccessToken[:len(p.AccessToken)-3] + "abc"},
		"refresh token": {"Authorization", "Bearer " + p.RefreshToken},
	} {
		got := w.get(t, "/oauth/token/info", header...).want(t, 401)
		challenge := got.Header.Get("WWW-Authenticate")
		if want := map[bool]string{true: "Bearer", false: `Bearer error="invalid_token"`}[name == "none" || name == "Basic"]; challenge != want {
			t.Errorf("%s: WWW-Authenticate %q, want %q", name, challenge, want)
		}
	}
	w.clock.advance(5391 * time.Second)
	w.get(t, "/oauth/token/info", "Authorization", "Bearer "+p.AccessToken).refused(t, 401, "invalid_token")
}

// A rotated key signs new tokens; the tokens of the old one stay good.
func TestKeyRotation(t *testing.T) {
	for _, algorithm := range []string{"ES512", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) { rotateKey(t, algorithm) })
	}
}

func rotateKey(t *testing.T, algorithm string) {
	w := newWorld(t, func(o *Options) { o.Algorithm = algorithm })
	a, _, old := w.userTokens(t)
	w.verify(t, old.AccessToken)
	var rotated struct {
		KID string `json:"kid"`
	}
	w.ask(t, http.MethodPost, "/internal/keys/rotate", struct{}{}).want(t, 200).json(t, &rotated)
	w.clock.advance(2 * time.Second)
	next := w.tokens(t, refreshForm(a, old.RefreshToken))
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(next.AccessToken, ".")[0])
	must(t, err)
	if !strings.Contains(string(header), rotated.KID) || !strings.Contains(string(header), algorithm) {
		t.Errorf("header %s, want the key %s", header, rotated.KID)
	}
	w.verify(t, next.AccessToken)
	w.verify(t, old.AccessToken)
	var list struct {
		Keys []token.KeyInfo `json:"keys"`
	}
	listed := w.ask(t, http.MethodGet, "/internal/keys", nil).want(t, 200)
	listed.json(t, &list)
	if len(list.Keys) != 2 || strings.Contains(string(listed.body), "PRIVATE") {
		t.Errorf("keys %s", listed.body)
	}
	published := w.get(t, "/oauth/jwks").want(t, 200)
	if !strings.Contains(string(published.body), rotated.KID) || strings.Contains(string(published.body), `"d"`) {
		t.Errorf("published keys %s", published.body)
	}
}
