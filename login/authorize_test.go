package login

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

func TestAllow(t *testing.T) {
	w := newWorld(t)
	a, u := w.newApp(t, kindWeb, callback), w.newPerson(t, "a@example.com")
	state := `a "state" & <more>`
	b := w.browser(t).open(t, authorizeURL(a, callback, "state", state))
	b = b.signIn(t, " A@Example.com ", password)
	if b.StatusCode != http.StatusOK || !strings.Contains(string(b.body), "An app") {
		t.Fatalf("no consent page: %v", b.reply)
	}
	b = b.submit(t, "decision", "allow")
	q := b.away.Query()
	// "MUST be retained when adding additional query parameters" (RFC 6749 section 3.1.2)
	if b.away.Scheme+"://"+b.away.Host+b.away.Path != "https://app.example.com/callback" || q.Get("tenant") != "7" {
		t.Errorf("led to %s", b.away)
	}
	// RFC 9207: the issuer as the metadata of this door names it
	if q.Get("state") != state || q.Get("iss") != w.door || q.Get("error") != "" {
		t.Errorf("came back with %v", q)
	}
	c := w.verify(t, w.tokens(t, codeForm(a, q.Get("code"))).AccessToken)
	if c.Subject != u.ID {
		t.Errorf("claims %+v", c)
	}
	// Signed in, they have only to consent the next time.
	b.open(t, "/oauth/authorize/"+strings.TrimPrefix(authorizeURL(a, callback), "/oauth/authorize"))
	if !strings.Contains(string(b.body), `value="allow"`) {
		t.Errorf("no consent page: %v", b.reply)
	}
}

func TestDeny(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback, outOfBand)
	w.newPerson(t, "a@example.com")
	b := w.browser(t).open(t, authorizeURL(a, callback, "state", "s")).signIn(t, "a@example.com", password)
	if bad := *b; bad.submit(t).StatusCode != 400 || bad.away != nil {
		t.Errorf("a form without a decision: %v", bad.reply)
	}
	b = b.open(t, authorizeURL(a, callback, "state", "s")).submit(t, "decision", "deny")
	if q := b.away.Query(); q.Get("error") != "access_denied" || q.Get("state") != "s" || q.Has("code") {
		t.Errorf("came back with %v", q)
	}
	b = b.open(t, authorizeURL(a, outOfBand)).submit(t, "decision", "deny")
	if b.away != nil || b.StatusCode != 200 || strings.Contains(string(b.body), "authorization-code") {
		t.Errorf("denied out of band: %v", b.reply)
	}
}

// urn:ietf:wg:oauth:2.0:oob: "the code is shown on a page of ours to copy".
func TestOutOfBand(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindInstalled, outOfBand)
	w.newPerson(t, "a@example.com")
	verifier := oauth2.GenerateVerifier()
	b := w.browser(t).open(t, authorizeURL(a, outOfBand, "code_challenge", challengeOf(verifier), "code_challenge_method", "S256"))
	b = b.signIn(t, "a@example.com", password).submit(t, "decision", "allow")
	b.want(t, 200)
	form := codeForm(a, b.text(t, "authorization-code"))
	form.Set("redirect_uri", outOfBand)
	form.Set("code_verifier", verifier)
	w.tokens(t, form)
}

// RFC 6749 section 4.1.2.1: of a wrong client or redirect URI the person is told, and
// never sent there. Redirect URIs are compared exactly.
func TestNeverRedirectedThere(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback, "https://app.example.com/other")
	machine := w.newApp(t, kindDeveloperManaged)
	w.newPerson(t, "a@example.com")
	signedIn := w.browser(t).open(t, "/login").signIn(t, "a@example.com", password)
	for _, wrong := range []string{
		"https://evil.example/", "", callback + "&x=1", callback + "#x", strings.TrimSuffix(callback, "7"), "https://app.example.com/callback",
		"https://APP.example.com/callback?tenant=7", "https://app.example.com:443/callback?tenant=7", "HTTPS://app.example.com/callback?tenant=7",
		"https://app.example.com@evil.example/callback?tenant=7", "https://app.example.com.evil.example/callback?tenant=7", "http://app.example.com/callback?tenant=7",
		"https://app.example.com/callback/../evil?tenant=7", "https://app.example.com/%63allback?tenant=7", `https://app.example.com\@evil.example/`,
		"//evil.example", "/", "javascript:alert(1)", "data:text/html,x", outOfBand, " " + callback, callback + "\r\nSet-Cookie: a=b", callback + "\x00", "https://app.example.com/*",
	} {
		for _, b := range []*browser{w.browser(t), signedIn} {
			b.open(t, authorizeURL(a, wrong))
			if b.away != nil || b.StatusCode != 400 || b.action != "" {
				t.Errorf("redirect_uri %q: %v, away to %v", wrong, b.reply, b.away)
			}
		}
	}
	for name, query := range map[string]string{
		"unknown client":     authorizeURL(app{ClientID: "nobody"}, callback),
		"no client":          authorizeURL(app{}, callback),
		"NUL client":         authorizeURL(app{ClientID: "\x00"}, callback),
		"a service account":  authorizeURL(machine, callback),
		"two clients":        authorizeURL(a, callback) + "&client_id=x",
		"two redirect URIs":  authorizeURL(a, callback) + "&redirect_uri=https://evil.example/",
		"a bad escape":       authorizeURL(a, callback) + "&x=%zz",
		"nothing at all":     "/oauth/authorize",
		"a markup client id": authorizeURL(app{ClientID: "<script>alert(1)</script>"}, callback),
	} {
		signedIn.open(t, query)
		if signedIn.away != nil || signedIn.StatusCode != 400 || signedIn.action != "" || strings.Contains(string(signedIn.body), "<script") {
			t.Errorf("%s: %v, away to %v", name, signedIn.reply, signedIn.away)
		}
	}
}

// All other mistakes the client hears of by redirect, with its state (section 4.1.2.1).
func TestMistakesOfTheClient(t *testing.T) {
	w := newWorld(t)
	web, public := w.newApp(t, kindWeb, callback), w.newApp(t, kindInstalled, callback)
	challenge := challengeOf(codeVerifier)
	for name, c := range map[string]struct {
		app  app
		more []string
		code string
	}{
		"no response type":     {web, []string{"response_type", ""}, "invalid_request"},
		"implicit":             {web, []string{"response_type", "token"}, "unsupported_response_type"},
		"public, no challenge": {public, nil, "invalid_request"},
		"plain":                {public, []string{"code_challenge", challenge, "code_challenge_method", "plain"}, "invalid_request"},
		"no method":            {public, []string{"code_challenge", challenge}, "invalid_request"}, // which is plain (RFC 7636 section 4.3)
		"method only":          {web, []string{"code_challenge_method", "S256"}, "invalid_request"},
		"malformed challenge":  {web, []string{"code_challenge", "x", "code_challenge_method", "S256"}, "invalid_request"},
	} {
		b := w.browser(t).open(t, authorizeURL(c.app, callback, append(c.more, "state", "s&=")...))
		if b.away == nil {
			t.Errorf("%s: %v", name, b.reply)
			continue
		}
		if q := b.away.Query(); q.Get("error") != c.code || q.Get("state") != "s&=" || q.Get("error_description") == "" || b.away.Host != "app.example.com" {
			t.Errorf("%s: led to %s", name, b.away)
		}
	}
	// A redirect URI that is left out is the only one that is registered (section 3.1.2.3).
	w.newPerson(t, "a@example.com")
	b := w.browser(t).open(t, "/oauth/authorize?response_type=code&client_id="+web.ClientID).signIn(t, "a@example.com", password).submit(t, "decision", "allow")
	form := codeForm(web, b.away.Query().Get("code"))
	form.Del("redirect_uri")
	w.tokens(t, form)
}

// Wherever a person comes from, signing in leads to pages of ours alone.
func TestOpenRedirects(t *testing.T) {
	w := newWorld(t)
	w.newPerson(t, "a@example.com")
	for _, path := range []string{
		"/login?next=https://evil.example/", "/login?client_id=x&return_to=//evil.example", "/login?//evil.example", `/login?\\evil.example`,
		"/login?redirect_uri=https://evil.example/&client_id=x", "/login?client_id=@evil.example", "/login/?client_id=%0d%0aLocation:https://evil.example",
	} {
		b := w.browser(t).open(t, path).signIn(t, "a@example.com", password)
		if b.away != nil {
			t.Errorf("%s led to %s", path, b.away)
		}
	}
	for _, path := range []string{"//evil.example/login", `/\evil.example/login`, "/login/..//evil.example", "/logout?next=//evil.example", "//evil.example/oauth/authorize/"} {
		r := newRequest(t, http.MethodGet, w.door, nil)
		r.URL.Opaque = path
		got := send(t, noRedirects, r)
		if to := got.Header.Get("Location"); to != "" && to != "/" {
			t.Errorf("%s leads to %s", path, to)
		}
	}
}

// A page of another site can't consent in a person's name.
func TestForgedConsent(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	w.newPerson(t, "a@example.com")
	w.newPerson(t, "b@example.com")
	b := w.browser(t).open(t, authorizeURL(a, callback)).signIn(t, "a@example.com", password)
	other := w.browser(t).open(t, authorizeURL(a, callback)).signIn(t, "b@example.com", password)
	form := url.Values{"decision": {"allow"}, "csrf": {b.fields.Get("csrf")}}
	with := func(csrf string) url.Values { return url.Values{"decision": {"allow"}, "csrf": {csrf}} }
	for name, c := range map[string]struct {
		form   url.Values
		header []string
	}{
		"another site":     {form, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
		"a sibling":        {form, []string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.procore.com"}},
		"another origin":   {form, []string{"Origin", "https://evil.example"}},
		"nowhere":          {form, []string{"Origin", "null"}},
		"without a secret": {url.Values{"decision": {"allow"}}, nil},
		"a wrong secret":   {with(form.Get("csrf") + "x"), nil},
		"another person's": {with(other.fields.Get("csrf")), nil},
		"two secrets":      {url.Values{"decision": {"allow"}, "csrf": {form.Get("csrf"), "x"}}, nil},
	} {
		r := newRequest(t, http.MethodPost, w.door+b.action, strings.NewReader(c.form.Encode()), append(c.header, "Content-Type", formType)...)
		got := send(t, b.client, r)
		if got.StatusCode != 403 && got.StatusCode != 400 || got.Header.Get("Location") != "" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if b.submit(t, "decision", "allow"); b.away == nil || !b.away.Query().Has("code") {
		t.Errorf("the page itself: %v", b.reply)
	}
	// The query is the request: what is tampered with there is checked again.
	b.open(t, authorizeURL(a, callback))
	b.action = authorizeURL(a, "https://evil.example/")
	if b.submit(t, "decision", "allow"); b.away != nil || b.StatusCode != 400 {
		t.Errorf("a tampered redirect URI: %v, away to %v", b.reply, b.away)
	}
}

// The consent page shows what developers and people have typed; none of it is markup.
func TestMarkupIsEscaped(t *testing.T) {
	w := newWorld(t)
	const evil = `"><script>alert(1)</script>`
	var a app
	w.ask(t, http.MethodPost, "/internal/apps", newApp{Name: evil, Kind: kindWeb, RedirectURIs: []string{outOfBand}}).want(t, 201).json(t, &a)
	w.ask(t, http.MethodPost, "/internal/users", newUser{Login: "a@example.com", Name: evil, Password: password}).want(t, 201)
	b := w.browser(t).open(t, authorizeURL(a, outOfBand, "state", evil))
	pages := []reply{b.reply, b.signIn(t, evil+"@example.com", evil).reply, b.signIn(t, "a@example.com", password).reply}
	pages = append(pages, b.submit(t, "decision", "allow").reply, b.open(t, "/logout").reply, b.open(t, "/").reply, b.open(t, "/oauth/authorize?x=<script>").reply)
	for _, page := range pages {
		if strings.Contains(string(page.body), "<script") {
			t.Errorf("%s holds markup: %s", page.Request.URL.Path, page.body)
		}
	}
}

func TestPagesAreLockedDown(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	loopback := w.newApp(t, kindWeb, "http://[::1]:8080/cb")
	mobile := w.newApp(t, kindWeb, "com.example.app:/cb")
	w.newPerson(t, "a@example.com")
	b := w.browser(t)
	check := func(page reply, target string) {
		t.Helper()
		policy := page.Header.Get("Content-Security-Policy")
		want := "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'" + target + "; frame-ancestors 'none'; base-uri 'none'"
		if policy != want {
			t.Errorf("%s: policy %q\nwant %q", page.Request.URL.Path, policy, want)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer, same-origin", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if got := page.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", page.Request.URL.Path, name, got)
			}
		}
	}
	check(b.open(t, authorizeURL(a, callback)).reply, "")
	// Chromium holds the redirect after a form to the policy as well.
	check(b.signIn(t, "a@example.com", password).reply, " https://app.example.com")
	check(b.open(t, authorizeURL(loopback, "http://[::1]:8080/cb")).reply, " http:")
	check(b.open(t, authorizeURL(mobile, "com.example.app:/cb")).reply, " com.example.app:")
	check(b.open(t, authorizeURL(a, "x")).reply, "")

	style := strings.Split(strings.Split(string(b.body), `<link rel="stylesheet" href="`)[1], `"`)[0]
	css := w.get(t, style).want(t, 200)
	if css.Header.Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(css.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("style sheet %s: %v", style, css.Header)
	}
	w.get(t, "/assets/other.css").want(t, 404)
	w.get(t, "/assets/").want(t, 404)
}

// "The API door answers /oauth/* too, because SDKs with one host setting send them there."
// People sign in at the login door.
func TestAtTheAPIDoor(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	forwarded := []string{"X-Forwarded-Host", "api.procore.com", "X-Forwarded-Proto", "https"}
	w.post(t, "/oauth/token", machineForm(w.newApp(t, kindDeveloperManaged)), forwarded...).want(t, 200)
	for _, path := range []string{authorizeURL(a, callback, "state", "a b"), "/login?client_id=x"} {
		got := w.get(t, path, forwarded...).want(t, 302)
		if to := got.Header.Get("Location"); to != issuer+path {
			t.Errorf("%s leads to %s", path, to)
		}
	}
	w.post(t, "/login", url.Values{}, forwarded...).want(t, 404)
	w.post(t, "/oauth/authorize", url.Values{}, forwarded...).want(t, 404)
}

func TestMetadata(t *testing.T) {
	w := newWorld(t)
	for base, header := range map[string][]string{
		w.door:  {},
		issuer:  {"X-Forwarded-Host", "login.procore.com", "X-Forwarded-Proto", "https"},
		apiDoor: {"X-Forwarded-Host", "api.procore.com", "X-Forwarded-Proto", "https"},
	} {
		var m struct {
			Issuer    string   `json:"issuer"`
			Authorize string   `json:"authorization_endpoint"`
			Token     string   `json:"token_endpoint"`
			Revoke    string   `json:"revocation_endpoint"`
			Keys      string   `json:"jwks_uri"`
			PKCE      []string `json:"code_challenge_methods_supported"`
			Iss       bool     `json:"authorization_response_iss_parameter_supported"`
		}
		w.get(t, "/.well-known/oauth-authorization-server", header...).want(t, 200).json(t, &m)
		if m.Issuer != base || m.Authorize != base+"/oauth/authorize" || m.Token != base+"/oauth/token" || m.Revoke != base+"/oauth/revoke" ||
			m.Keys != base+"/oauth/jwks" || len(m.PKCE) != 1 || m.PKCE[0] != "S256" || m.Iss != (base != apiDoor) {
			t.Errorf("%s: %+v", base, m)
		}
	}
	// What a client sends as Host doesn't find its way into our answers.
	for _, header := range [][]string{{"X-Forwarded-Host", "evil.example"}, {"X-Forwarded-Proto", "javascript"}, {"X-Forwarded-Host", `a"b`}} {
		got := w.get(t, "/.well-known/oauth-authorization-server/", header...).want(t, 200)
		if !strings.Contains(string(got.body), `"issuer":"`+issuer+`"`) {
			t.Errorf("%v: %s", header, got.body)
		}
	}
	for _, path := range []string{"/oauth/jwks", "/.well-known/jwks.json", "/oauth/jwks/"} {
		keys := w.get(t, path).want(t, 200)
		if !strings.Contains(string(keys.body), `"kty":"EC"`) || strings.Contains(string(keys.body), `"d":`) {
			t.Errorf("%s: %s", path, keys.body)
		}
	}
}

// RFC 7636 section 4.1: "code-verifier = 43*128unreserved". A shorter one can be guessed.
func TestLengthOfVerifiers(t *testing.T) {
	for length, good := range map[int]bool{0: false, 1: false, 42: false, 43: true, 128: true, 129: false} {
		verifier := strings.Repeat("x", length)
		sum := sha256.Sum256([]byte(verifier))
		if got := verifierMatches(base64.RawURLEncoding.EncodeToString(sum[:]), verifier); got != good {
			t.Errorf("%d characters: %v", length, got)
		}
	}
}
