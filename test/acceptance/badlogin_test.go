package acceptance

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestBadTokenRequests(t *testing.T) {
	d := shared(t)
	a := d.app(t, "developer_managed")
	good := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret}}
	const formType = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"cut off JSON":          {"application/json", `{"grant_type":"client_credentials"`, 400, "invalid_request"},
		"JSON list":             {"application/json", `[]`, 400, "invalid_request"},
		"JSON object as value":  {"application/json", `{"grant_type":{"a":1}}`, 400, "invalid_request"},
		"no boundary":           {"multipart/form-data", "--x\r\n", 400, "invalid_request"},
		"wrong boundary":        {"multipart/form-data; boundary=y", "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x--\r\n", 400, "invalid_request"},
		"multipart cut off":     {"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_cre", 400, "invalid_request"},
		"multipart, no name":    {"multipart/form-data; boundary=x", "--x\r\n\r\nclient_credentials\r\n--x--\r\n", 400, "invalid_request"},
		"XML":                   {"text/xml", "<grant_type>client_credentials</grant_type>", 400, "invalid_request"},
		"bad escapes":           {formType, "grant_type=%zz", 400, "invalid_request"},
		"nothing":               {formType, "", 400, "invalid_request"},
		"unknown grant":         {formType, "grant_type=password&client_id=" + a.ClientID + "&client_secret=" + a.ClientSecret, 400, "unsupported_grant_type"},
		"twice the same":        {formType, good.Encode() + "&grant_type=client_credentials", 400, "invalid_request"}, // RFC 6749 section 3.2
		"no client":             {formType, "grant_type=client_credentials", 401, "invalid_client"},
		"unknown client":        {formType, "grant_type=client_credentials&client_id=x&client_secret=y", 401, "invalid_client"},
		"wrong secret":          {formType, "grant_type=client_credentials&client_id=" + a.ClientID + "&client_secret=y", 401, "invalid_client"},
		"NUL in the client id":  {formType, "grant_type=client_credentials&client_id=%00&client_secret=y", 401, "invalid_client"},
		"an unknown code":       {formType, "grant_type=authorization_code&code=x&" + webCredentials(t, d), 400, "invalid_grant"},
		"an unknown refresh":    {formType, "grant_type=refresh_token&refresh_token=x&" + webCredentials(t, d), 400, "invalid_grant"},
		"no code":               {formType, "grant_type=authorization_code&" + webCredentials(t, d), 400, "invalid_request"},
		"an oversized body":     {formType, good.Encode() + "&x=" + strings.Repeat("x", 4<<20), 413, "invalid_request"},
		"a person as a machine": {formType, "grant_type=client_credentials&" + webCredentials(t, d), 400, "unauthorized_client"},
	} {
		t.Run(name, func(t *testing.T) {
			got := call{Method: "POST", URL: d.loginURL("/oauth/token"), Body: c.body, Header: map[string]string{"Content-Type": c.contentType}}.send(t)
			got.wantCode(t, c.status, c.code)
			if got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control: %q", got.Header.Get("Cache-Control"))
			}
		})
	}
}

func webCredentials(t *testing.T, d *dev) string {
	t.Helper()
	web := d.app(t, "web")
	return url.Values{"client_id": {web.ClientID}, "client_secret": {web.ClientSecret}, "redirect_uri": {web.redirectURI(t)}}.Encode()
}

// The ways to send credentials and parameters that are allowed: each answers tokens.
func TestGoodTokenRequests(t *testing.T) {
	d := shared(t)
	a := d.app(t, "developer_managed")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret}}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(a.ClientID)+":"+url.QueryEscape(a.ClientSecret)))
	for name, c := range map[string]call{
		"form":                 {URL: d.loginURL("/oauth/token"), Form: form},
		"with a slash":         {URL: d.loginURL("/oauth/token/"), Form: form},
		"at the api door":      {URL: d.apiURL("/oauth/token"), Form: form},
		"query":                {URL: d.loginURL("/oauth/token?%s", form.Encode())},
		"JSON":                 {URL: d.loginURL("/oauth/token"), JSON: map[string]string{"grant_type": "client_credentials", "client_id": a.ClientID, "client_secret": a.ClientSecret}},
		"Basic":                {URL: d.loginURL("/oauth/token"), Form: url.Values{"grant_type": {"client_credentials"}}, Header: map[string]string{"Authorization": basic}},
		"form with a charset":  {URL: d.loginURL("/oauth/token"), Body: form.Encode(), Header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}},
		"a parameter too many": {URL: d.loginURL("/oauth/token"), Form: url.Values{"grant_type": form["grant_type"], "client_id": form["client_id"], "client_secret": form["client_secret"], "extra": {"x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Method = "POST"
			var p tokens
			c.send(t).want(t, 200).into(t, &p)
			call{URL: d.apiURL("/rest/v1.0/me"), Token: p.Access, Company: a.Companies[0]}.send(t).want(t, 200)
		})
	}
}

// gone waits until the gateway refuses a token: "Revocation reaches every gateway in
// under a second."
func (d *dev) gone(t *testing.T, token string) {
	t.Helper()
	took := eventually(t, 5*time.Second, func() (bool, string) {
		a := call{URL: d.apiURL("/rest/v1.0/me"), Token: token}.send(t)
		return a.Status == 401, a.String()
	})
	if took > time.Second {
		t.Errorf("the token was refused after %v", took)
	}
}

// RFC 6749 section 4.1.2: a code that is used twice is refused, and what was issued for it
// the first time is revoked.
func TestCodeReuse(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	form := codeForm(web, web.redirectURI(t), d.code(t, d.everywhereUser(t), web, web.redirectURI(t)))
	p := d.pair(t, form)
	call{URL: d.apiURL("/rest/v1.0/me"), Token: p.Access}.send(t).want(t, 200)
	d.exchange(t, form).wantCode(t, 400, "invalid_grant")
	d.gone(t, p.Access)
	d.exchange(t, refreshForm(web, p.Refresh)).wantCode(t, 400, "invalid_grant")
}

// "each refresh answers with a new pair and invalidates the old refresh token at once";
// "family revoked on reuse".
func TestRefreshReuse(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	first := d.userTokens(t)
	second := d.pair(t, refreshForm(web, first.Refresh))
	third := d.pair(t, refreshForm(web, second.Refresh))
	call{URL: d.apiURL("/rest/v1.0/me"), Token: third.Access}.send(t).want(t, 200)
	got := d.exchange(t, refreshForm(web, first.Refresh)).wantCode(t, 400, "invalid_grant")
	if !strings.Contains(string(got.Body), "The refresh token is invalid") {
		t.Errorf("unknown words: %v", got)
	}
	d.gone(t, third.Access)
	d.exchange(t, refreshForm(web, third.Refresh)).wantCode(t, 400, "invalid_grant")
}

// Two that present the same code, or the same refresh token, at the same time: one wins
// at the most.
func TestRacesForOneCode(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	for name, form := range map[string]url.Values{
		"code":    codeForm(web, web.redirectURI(t), d.code(t, d.everywhereUser(t), web, web.redirectURI(t))),
		"refresh": refreshForm(web, d.userTokens(t).Refresh),
	} {
		const racers = 8
		answers := make(chan int, racers)
		for range racers {
			go func() {
				a, err := call{Method: "POST", URL: d.loginURL("/oauth/token"), Form: form}.do(t.Context())
				if err != nil {
					t.Error(err)
				}
				answers <- a.Status
			}()
		}
		count := map[int]int{}
		for range racers {
			count[<-answers]++
		}
		if count[200] != 1 || count[400] != racers-1 {
			t.Errorf("%s: answers by status: %v", name, count)
		}
	}
}

func TestForeignCodesAndRefreshTokens(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	uri := web.redirectURI(t)
	thief := d.newApp(t, "web", uri)
	code := func() string { return d.code(t, d.everywhereUser(t), web, uri) }

	d.exchange(t, codeForm(thief, uri, code())).wantCode(t, 400, "invalid_grant")
	d.exchange(t, codeForm(web, uri+"/", code())).wantCode(t, 400, "invalid_grant")
	p := d.userTokens(t)
	d.exchange(t, refreshForm(thief, p.Refresh)).wantCode(t, 400, "invalid_grant")

	// RFC 7009 section 2.1: the token isn't the thief's; it stays as it is.
	call{Method: "POST", URL: d.loginURL("/oauth/revoke"), Form: url.Values{"token": {p.Access}, "client_id": {thief.ClientID}, "client_secret": {thief.ClientSecret}}}.send(t).want(t, 200)
	d.pair(t, refreshForm(web, p.Refresh))
	call{Method: "POST", URL: d.loginURL("/oauth/revoke"), Form: url.Values{"token": {p.Access}, "client_id": {web.ClientID}, "client_secret": {"wrong"}}}.send(t).wantCode(t, 401, "invalid_client")
}

// PKCE, RFC 7636.
func TestProofKeys(t *testing.T) {
	d := shared(t)
	installed := d.app(t, "installed")
	uri := installed.RedirectURIs[0]
	for name, verifier := range map[string]string{"none": "", "wrong": strings.Repeat("x", 43), "the challenge itself": pkceChallenge(), "short": "x"} {
		form := codeForm(installed, uri, d.code(t, d.everywhereUser(t), installed, uri))
		if verifier != "" {
			form.Set("code_verifier", verifier)
		}
		if got := d.exchange(t, form); got.Status != 400 {
			t.Errorf("%s: %v", name, got)
		}
	}
	// A public client without a challenge, or with the plain method, gets no code.
	for name, query := range map[string]url.Values{
		"no challenge": {},
		"plain":        {"code_challenge": {pkceVerifier}, "code_challenge_method": {"plain"}},
	} {
		all := authorizeQuery(installed, uri)
		for k, v := range query {
			all[k] = v
		}
		p := newPerson(t, d).open(t, "/oauth/authorize?"+all.Encode())
		if p.away == nil || p.away.Query().Get("error") != "invalid_request" {
			t.Errorf("%s: %v, away to %v", name, p.answer, p.away)
		}
	}
}

// "redirect URIs compared exactly" (RFC 6749 section 3.1.2.4: the person is told, and
// never sent there).
func TestWrongRedirectURIs(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	uri := web.redirectURI(t)
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{
		"https://evil.example/", uri + "/", uri + "?x=1", uri + "#x", uri + "/../evil", uri + ".evil.example",
		u.Scheme + "://" + u.Host + "@evil.example" + u.Path, u.Scheme + "://evil.example" + u.Path, "//evil.example", "javascript:alert(1)",
		u.Scheme + "://" + u.Host + strings.ToUpper(u.Path), strings.ToUpper(u.Scheme) + uri[len(u.Scheme):], u.Scheme + "://" + u.Host + u.Path + "%00",
		" " + uri, uri + "\r\nSet-Cookie: a=b", "",
	} {
		query := authorizeQuery(web, wrong)
		p := newPerson(t, d).open(t, "/oauth/authorize?"+query.Encode())
		if p.away != nil || p.form != nil || p.answer.Status != 400 {
			// Left out, it may only be the one that is registered (RFC 6749 section 3.1.2.3).
			if wrong != "" {
				t.Errorf("%q: %v, away to %v", wrong, p.answer, p.away)
			}
		}
	}
	for name, change := range map[string]url.Values{
		"unknown client":    {"client_id": {"nobody"}},
		"no client":         {"client_id": nil},
		"two redirect URIs": {"redirect_uri": {uri, "https://evil.example/"}},
		"two clients":       {"client_id": {web.ClientID, "nobody"}},
	} {
		query := authorizeQuery(web, uri)
		for k, v := range change {
			query[k] = v
		}
		p := newPerson(t, d).open(t, "/oauth/authorize?"+query.Encode())
		if p.away != nil || p.form != nil || p.answer.Status != 400 {
			t.Errorf("%s: %v, away to %v", name, p.answer, p.away)
		}
	}
	query := authorizeQuery(web, uri)
	query.Set("response_type", "token")
	query.Set("state", "kept")
	if p := newPerson(t, d).open(t, "/oauth/authorize?"+query.Encode()); p.away == nil || p.away.Query().Get("error") != "unsupported_response_type" || p.away.Query().Get("state") != "kept" {
		t.Errorf("response_type token: %v, away to %v", p.answer, p.away)
	}
}

// Whatever the login page remembers of where the person came from, it leads nowhere else.
func TestOpenRedirects(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	u := d.everywhereUser(t)
	for _, evil := range []string{
		"https://evil.example/", "//evil.example/", `/\evil.example/`, `\\evil.example`, "/%2fevil.example", "/\t/evil.example",
		"https:evil.example", "javascript:alert(1)", " //evil.example", "/..//evil.example", d.Environments[0].Login + "@evil.example/",
	} {
		p := newPerson(t, d).open(t, "/oauth/authorize?"+authorizeQuery(web, web.redirectURI(t)).Encode())
		action := p.resolve(t, p.form.action)
		query := action.Query()
		tampered := leadTo(evil, p.form.fields) + leadTo(evil, query)
		if tampered == 0 {
			t.Fatalf("nothing on the page says where it leads: %v", p.answer)
		}
		for _, name := range []string{"return_to", "next", "redirect", "return", "continue", "url"} {
			query.Set(name, evil)
		}
		action.RawQuery = query.Encode()
		p.form.action = action.String()
		after := p.signIn(t, u)
		if after.away != nil || strings.Contains(after.at.Host, "evil") {
			t.Errorf("%q (%d fields changed) led to %v", evil, tampered, after.away)
		}
		// The person is signed in, and what was changed has come as far as it can.
		if after.at.Path != "/oauth/authorize" || after.at.Query().Get("redirect_uri") != evil || after.answer.Status != 400 {
			t.Errorf("%q: %v at %s; want the refusal of an address that isn't registered", evil, after.answer, after.at)
		}
	}
	for _, path := range []string{"//evil.example/%2e%2e", "/login?next=//evil.example", `/\evil.example`, "/logout?next=https://evil.example/", "//evil.example/oauth/authorize/"} {
		at := d.loginURL("%s", path)
		if strings.Contains(path, `\`) || strings.Contains(path, "%") {
			at = d.loginURL("/") + url.PathEscape(strings.TrimPrefix(path, "/"))
		}
		got := call{URL: at}.send(t)
		if to := got.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.Contains(to, "evil") && !strings.HasPrefix(to, "/") {
			t.Errorf("%s redirects to %s", path, to)
		}
	}
}

// leadTo changes all that holds an address, and answers how many that were.
func leadTo(evil string, values url.Values) (changed int) {
	for name, v := range values {
		if strings.HasPrefix(v[0], "/") || strings.HasPrefix(v[0], "http") {
			values.Set(name, evil)
			changed++
		}
	}
	return changed
}

// A page of somebody else can't sign a person in or allow an app in the person's name.
func TestCrossSitePosts(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	authorize := "/oauth/authorize?" + authorizeQuery(web, web.redirectURI(t)).Encode()
	consent := newPerson(t, d).open(t, authorize).signIn(t, d.everywhereUser(t))
	if consent.form == nil {
		t.Fatalf("no consent page: %v", consent.answer)
	}
	allow := url.Values{"decision": {"allow"}}
	for name, v := range consent.form.fields {
		allow[name] = v
	}
	action := consent.resolve(t, consent.form.action).String()
	for name, c := range map[string]call{
		"from another site":   {Form: allow, Header: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}},
		"from another origin": {Form: allow, Header: map[string]string{"Origin": "https://evil.example"}},
		"from nowhere":        {Form: allow, Header: map[string]string{"Origin": "null"}},
		"without our secret":  {Form: url.Values{"decision": {"allow"}}},
		"with a wrong secret": {Form: spoiled(allow)},
	} {
		c.Method, c.URL, c.Client = "POST", action, consent.client
		got := c.send(t)
		if got.Status != 403 && got.Status != 400 || strings.Contains(got.Header.Get("Location"), "code=") {
			t.Errorf("%s: %v; want a refusal", name, got)
		}
	}
	// None of that used the page up.
	if back := consent.submit(t, url.Values{"decision": {"allow"}}).redirectedOutside(t); !back.Query().Has("code") {
		t.Errorf("the page itself led to %s", back)
	}
}

// spoiled changes each hidden value but the decision.
func spoiled(form url.Values) url.Values {
	bad := url.Values{}
	for name, v := range form {
		bad.Set(name, v[0])
		if name != "decision" {
			bad.Set(name, v[0]+"x")
		}
	}
	return bad
}

// "Login attempts are limited": guessing ends, for that account.
func TestGuessingPasswords(t *testing.T) {
	d := startDev(t, t.TempDir()) // the limit of an address would hold up the other tests
	web := d.app(t, "web")
	victim := d.newUser(t, "victim", d.in(t, "US01").ID)
	p := newPerson(t, d).open(t, "/oauth/authorize?"+authorizeQuery(web, web.redirectURI(t)).Encode())
	limited := false
	for range 30 {
		p = p.signIn(t, user{Login: victim.Login, Password: "a guess"})
		if limited = p.answer.Status == 429; limited {
			break
		}
	}
	if !limited {
		t.Fatalf("thirty guesses and no end: %v", p.answer)
	}
	if p.answer.Header.Get("Retry-After") == "" {
		t.Error("it isn't said when to try again")
	}
	// The right password doesn't get around the limit, and so isn't told from a wrong one.
	if p.form != nil {
		if again := p.signIn(t, victim); again.answer.Status != 429 {
			t.Errorf("the right password: %v", again.answer)
		}
	}
}
