package login

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"mpr/rules"
)

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// multipartForm is a body as `curl -F` sends it.
func multipartForm(t *testing.T, form url.Values) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = &bytes.Buffer{}
	m := multipart.NewWriter(body)
	for name := range form {
		must(t, m.WriteField(name, form.Get(name)))
	}
	must(t, m.Close())
	return body, m.FormDataContentType()
}

func jsonBody(t *testing.T, form url.Values) string {
	t.Helper()
	object := map[string]string{}
	for name := range form {
		object[name] = form.Get(name)
	}
	data, err := json.Marshal(object)
	must(t, err)
	return string(data)
}

// Each way in which public clients send parameters and credentials gets tokens.
func TestWaysToAskForTokens(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	form := machineForm(a)
	body, boundary := multipartForm(t, form)
	for name, r := range map[string]*http.Request{
		"form":              newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(form.Encode()), "Content-Type", formType),
		"form with charset": newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(form.Encode()), "Content-Type", formType+"; charset=UTF-8"),
		"trailing slash":    newRequest(t, "POST", w.door+"/oauth/token/", strings.NewReader(form.Encode()), "Content-Type", formType),
		"multipart":         newRequest(t, "POST", w.door+"/oauth/token", body, "Content-Type", boundary),
		"JSON":              newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(jsonBody(t, form)), "Content-Type", "application/json;charset=utf-8"),
		"query":             newRequest(t, "POST", w.door+"/oauth/token?"+form.Encode(), nil),
		"query, typed":      newRequest(t, "POST", w.door+"/oauth/token?"+form.Encode(), nil, "Content-Type", "application/json"),
		"query and form":    newRequest(t, "POST", w.door+"/oauth/token?grant_type=client_credentials", strings.NewReader(credentials(a).Encode()), "Content-Type", formType),
		"Basic":             newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader("grant_type=client_credentials"), "Content-Type", formType, "Authorization", basic(a.ClientID, a.ClientSecret)),
		"basic":             newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader("grant_type=client_credentials"), "Content-Type", formType, "Authorization", "basic"+basic(a.ClientID, a.ClientSecret)[5:]),
		"Basic and body":    newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(form.Encode()), "Content-Type", formType, "Authorization", basic(a.ClientID, a.ClientSecret)),
		"Basic, JSON":       newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader(`{"grant_type":"client_credentials","client_id":null}`), "Content-Type", "application/json", "Authorization", basic(a.ClientID, a.ClientSecret)),
	} {
		t.Run(name, func(t *testing.T) {
			got := send(t, noRedirects, r).want(t, http.StatusOK)
			var p map[string]any
			got.json(t, &p)
			if p["token_type"] != "bearer" || p["expires_in"] != 5400.0 || p["access_token"] == "" {
				t.Errorf("answer %v", p)
			}
			// "A refresh token SHOULD NOT be included." (RFC 6749 section 4.4.3)
			if _, has := p["refresh_token"]; has {
				t.Error("client_credentials got a refresh token")
			}
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Pragma") != "no-cache" {
				t.Errorf("the answer may be cached: %v", got.Header)
			}
		})
	}
}

func TestTokenAnswer(t *testing.T) {
	w := newWorld(t)
	before := w.clock.now().Unix()
	a, u, p := w.userTokens(t)
	after := w.clock.now().Unix()
	if p.TokenType != "bearer" || p.ExpiresIn != 5400 || p.RefreshToken == "" {
		t.Errorf("answer %+v", p)
	}
	if p.CreatedAt < before || p.CreatedAt > after {
		t.Errorf("created_at %d isn't from %d to %d", p.CreatedAt, before, after)
	}
	c := w.verify(t, p.AccessToken)
	if c.Subject != u.ID || c.App != a.ID || c.ClientID != a.ClientID || c.Kind != rules.UserToken || c.Company != 0 || c.Issuer != issuer {
		t.Errorf("claims %+v", c)
	}
	if c.IssuedAt.Unix() != p.CreatedAt || c.Expires.Unix() != p.CreatedAt+p.ExpiresIn {
		t.Errorf("issued at %v, expires %v, but created_at is %d", c.IssuedAt, c.Expires, p.CreatedAt)
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(p.AccessToken, ".")[0])
	must(t, err)
	if !strings.Contains(string(header), `"typ":"JWT"`) || !strings.Contains(string(header), `"alg":"ES256"`) {
		t.Errorf("header %s", header)
	}
}

func TestServiceAccounts(t *testing.T) {
	w := newWorld(t)
	for kind, want := range map[string]rules.TokenKind{kindDeveloperManaged: rules.DeveloperManagedToken, kindTraditional: rules.TraditionalToken} {
		a := w.newApp(t, kind)
		c := w.verify(t, w.tokens(t, machineForm(a)).AccessToken)
		if c.Kind != want || c.Subject != a.ID || c.App != a.ID || c.Company != a.Company {
			t.Errorf("%s: claims %+v", kind, c)
		}
		w.post(t, "/oauth/token", codeForm(a, "x")).refused(t, 400, "unauthorized_client")
		w.post(t, "/oauth/token", refreshForm(a, "x")).refused(t, 400, "invalid_grant")
	}
	w.post(t, "/oauth/token", machineForm(w.newApp(t, kindWeb, callback))).refused(t, 400, "unauthorized_client")
	w.post(t, "/oauth/token", machineForm(w.newApp(t, kindInstalled, callback))).refused(t, 400, "unauthorized_client")
}

// "golang.org/x/oauth2 tries Basic first", and the body where that is refused.
func TestGoClient(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		c := clientcredentials.Config{ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: w.door + "/oauth/token", AuthStyle: style}
		got, err := c.Token(t.Context())
		must(t, err)
		w.verify(t, got.AccessToken)
	}
	wrong := clientcredentials.Config{ClientID: a.ClientID, ClientSecret: "wrong", TokenURL: w.door + "/oauth/token"}
	_, err := wrong.Token(t.Context())
	var refusal *oauth2.RetrieveError
	if !errors.As(err, &refusal) || refusal.ErrorCode != "invalid_client" {
		t.Errorf("a wrong secret: %v", err)
	}

	web, u := w.newApp(t, kindWeb, callback), w.newUser(t, "gopher@example.com")
	config := oauth2.Config{ClientID: web.ClientID, ClientSecret: web.ClientSecret, RedirectURL: callback,
		Endpoint: oauth2.Endpoint{TokenURL: w.door + "/oauth/token", AuthURL: w.door + "/oauth/authorize"}}
	verifier := oauth2.GenerateVerifier()
	got, err := config.Exchange(t.Context(), w.code(t, web, u, oauth2.S256ChallengeFromVerifier(verifier)), oauth2.VerifierOption(verifier))
	must(t, err)
	got.Expiry = w.clock.now().AddDate(0, 0, -1) // so that the client refreshes it
	next, err := config.TokenSource(context.WithoutCancel(t.Context()), got).Token()
	must(t, err)
	if next.AccessToken == got.AccessToken || next.RefreshToken == got.RefreshToken {
		t.Error("the refresh brought no new pair")
	}
}

func TestRefusedClients(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	other := w.newApp(t, kindDeveloperManaged)
	public := w.newApp(t, kindInstalled, callback)
	for name, c := range map[string]struct {
		form   url.Values
		auth   string
		status int
		code   string
	}{
		"no client":              {url.Values{}, "", 401, "invalid_client"},
		"no secret":              {url.Values{"client_id": {a.ClientID}}, "", 401, "invalid_client"},
		"wrong secret":           {url.Values{"client_id": {a.ClientID}, "client_secret": {"x"}}, "", 401, "invalid_client"},
		"another's secret":       {url.Values{"client_id": {a.ClientID}, "client_secret": {other.ClientSecret}}, "", 401, "invalid_client"},
		"unknown client":         {url.Values{"client_id": {"x"}, "client_secret": {"x"}}, "", 401, "invalid_client"},
		"NUL":                    {url.Values{"client_id": {"a\x00b"}, "client_secret": {"x"}}, "", 401, "invalid_client"},
		"not UTF-8":              {url.Values{"client_id": {"a\xff"}, "client_secret": {"x"}}, "", 401, "invalid_client"},
		"a public client's":      {url.Values{"client_id": {public.ClientID}, "client_secret": {"x"}}, "", 401, "invalid_client"},
		"wrong Basic":            {url.Values{}, basic(a.ClientID, "x"), 401, "invalid_client"},
		"Basic of nobody":        {url.Values{}, basic("x", "x"), 401, "invalid_client"},
		"Basic, no colon":        {url.Values{}, "Basic " + base64.StdEncoding.EncodeToString([]byte("abc")), 400, "invalid_request"},
		"Basic, no id":           {url.Values{}, basic("", "x"), 400, "invalid_request"},
		"Basic, bad base64":      {url.Values{}, "Basic !!!", 400, "invalid_request"},
		"Basic, bad escape":      {url.Values{}, "Basic " + base64.StdEncoding.EncodeToString([]byte("%zz:x")), 400, "invalid_request"},
		"Basic against the body": {credentials(other), basic(a.ClientID, a.ClientSecret), 400, "invalid_request"},
		"Bearer":                 {url.Values{}, "Bearer " + a.ClientSecret, 401, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			c.form.Set("grant_type", "client_credentials")
			header := []string{}
			if c.auth != "" {
				header = []string{"Authorization", c.auth}
			}
			got := w.post(t, "/oauth/token", c.form, header...).refused(t, c.status, c.code)
			// "If the client attempted to authenticate via the "Authorization" request
			// header field, the authorization server MUST respond with [...] the
			// "WWW-Authenticate" response header field" (RFC 6749 section 5.2)
			if challenge := got.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			if strings.Contains(string(got.body), a.ClientSecret) {
				t.Error("the answer shows a secret")
			}
		})
	}
	twice := newRequest(t, "POST", w.door+"/oauth/token", strings.NewReader("grant_type=client_credentials"), "Content-Type", formType)
	twice.Header["Authorization"] = []string{basic(a.ClientID, a.ClientSecret), basic(other.ClientID, other.ClientSecret)}
	send(t, noRedirects, twice).refused(t, 400, "invalid_request")
}

// "development credential of one is refused in every other (401, with a hint to the right
// host)". A client id that nobody has gets the very same answer.
func TestClientsOfOtherEnvironments(t *testing.T) {
	production := newWorld(t, func(o *Options) {
		o.ClientsOf = []Clients{{"the development sandbox", "sandbox-", "https://login-sandbox.procore.com"}}
	})
	sandbox := newWorldOf(t, func(o *Options) {
		o.ClientPrefix, o.ClientsOf = "sandbox-", []Clients{{"production", "", "https://login.procore.com"}}
	})
	real, trial := production.newApp(t, kindDeveloperManaged), sandbox.newApp(t, kindDeveloperManaged)
	if !strings.HasPrefix(trial.ClientID, "sandbox-") {
		t.Errorf("the sandbox made the client id %s", trial.ClientID)
	}
	for _, c := range []struct {
		w    *world
		form url.Values
		host string
	}{
		{production, machineForm(trial), "https://login-sandbox.procore.com"},
		{production, url.Values{"grant_type": {"client_credentials"}, "client_id": {"sandbox-of-nobody"}}, "https://login-sandbox.procore.com"},
		{sandbox, machineForm(real), "https://login.procore.com"},
		{production, url.Values{"grant_type": {"client_credentials"}, "client_id": {"nobody"}}, ""},
		{production, url.Values{"grant_type": {"client_credentials"}, "client_id": {real.ClientID}, "client_secret": {"x"}}, ""},
		{sandbox, url.Values{"grant_type": {"client_credentials"}, "client_id": {trial.ClientID}, "client_secret": {"x"}}, ""},
		{sandbox, url.Values{"grant_type": {"client_credentials"}}, ""},
	} {
		got := c.w.post(t, "/oauth/token", c.form).refused(t, 401, "invalid_client")
		if !strings.Contains(string(got.body), c.host) || strings.Contains(string(got.body), "https://") != (c.host != "") {
			t.Errorf("%v: %s; want a hint to %q", c.form, got.body, c.host)
		}
	}
	for _, c := range []struct {
		w          *world
		id, answer string
	}{{production, trial.ClientID, "https://login-sandbox.procore.com"}, {sandbox, real.ClientID, "https://login.procore.com"}} {
		got := c.w.get(t, "/oauth/authorize?response_type=code&client_id="+c.id)
		if got.StatusCode != 400 || !strings.Contains(string(got.body), c.answer) {
			t.Errorf("the page for %s: %d %s", c.id, got.StatusCode, got.body)
		}
	}
}

func TestBadTokenRequests(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	good := machineForm(a).Encode()
	const cut = "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x\r\n"
	for name, c := range map[string]struct {
		query, contentType, body string
		status                   int
		code                     string
	}{
		"nothing":                {"", formType, "", 400, "invalid_request"},
		"no grant type":          {"", formType, credentials(a).Encode(), 400, "invalid_request"},
		"empty grant type":       {"", formType, "grant_type=&" + credentials(a).Encode(), 400, "invalid_request"},
		"unknown grant type":     {"", formType, "grant_type=password&" + credentials(a).Encode(), 400, "unsupported_grant_type"},
		"repeated parameter":     {"", formType, good + "&grant_type=client_credentials", 400, "invalid_request"},
		"in query and body":      {"grant_type=client_credentials", formType, good, 400, "invalid_request"},
		"repeated JSON member":   {"", "application/json", `{"grant_type":"client_credentials","grant_type":"refresh_token"}`, 400, "invalid_request"},
		"bad escape":             {"", formType, "grant_type=%zz", 400, "invalid_request"},
		"bad escape in query":    {"grant_type=%zz", formType, "", 400, "invalid_request"},
		"semicolons":             {"", formType, "grant_type=a;client_id=b", 400, "invalid_request"},
		"no content type":        {"", "", good, 400, "invalid_request"},
		"text":                   {"", "text/plain", good, 400, "invalid_request"},
		"malformed type":         {"", `a/b; "x`, good, 400, "invalid_request"},
		"JSON cut off":           {"", "application/json", `{"grant_type":"client_credentials"`, 400, "invalid_request"},
		"JSON list":              {"", "application/json", `["grant_type"]`, 400, "invalid_request"},
		"JSON null":              {"", "application/json", `null`, 400, "invalid_request"},
		"JSON, then more":        {"", "application/json", `{"grant_type":"client_credentials"} {}`, 400, "invalid_request"},
		"JSON with an object":    {"", "application/json", `{"grant_type":{}}`, 400, "invalid_request"},
		"JSON with a list":       {"", "application/json", `{"grant_type":["client_credentials"]}`, 400, "invalid_request"},
		"JSON in a form":         {"", formType, `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		"multipart, no boundary": {"", "multipart/form-data", cut, 400, "invalid_request"},
		"multipart, other bound": {"", "multipart/form-data; boundary=y", cut, 400, "invalid_request"},
		"multipart cut off":      {"", "multipart/form-data; boundary=x", cut, 400, "invalid_request"},
		"multipart cut in value": {"", "multipart/form-data; boundary=x", cut[:len(cut)-12], 400, "invalid_request"},
		"multipart, no name":     {"", "multipart/form-data; boundary=x", "--x\r\n\r\nv\r\n--x--\r\n", 400, "invalid_request"},
		"multipart file":         {"", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"code\"; filename=\"f\"\r\n\r\nv\r\n--x--\r\n", 400, "invalid_request"},
		"too many parameters":    {"", formType, strings.Repeat("a&", 3) + manyParams(100), 400, "invalid_request"},
		"too large form":         {"", formType, "x=" + strings.Repeat("x", 1<<20), 413, "invalid_request"},
		"too large JSON":         {"", "application/json", `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "invalid_request"},
		"too large multipart":    {"", "multipart/form-data; boundary=x", cut[:len(cut)-5] + strings.Repeat("x", 1<<20), 413, "invalid_request"},
		"quotes in a name":       {"", formType, `%22%5c%0a=1&%22%5c%0a=2`, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, "POST", w.door+"/oauth/token?"+c.query, strings.NewReader(c.body))
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			send(t, noRedirects, r).refused(t, c.status, c.code)
		})
	}
}

func manyParams(n int) string {
	form := url.Values{}
	for i := range n {
		form.Set("p"+strings.Repeat("x", i), "1")
	}
	return form.Encode()
}

func TestPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/oauth/token", 405, "POST"},
		{"PUT", "/oauth/token/", 405, "POST"},
		{"POST", "/oauth/token/info", 405, "GET, HEAD"},
		{"DELETE", "/oauth/authorize", 405, "GET, HEAD, POST"},
		{"GET", "/oauth/nothing", 404, ""},
		{"GET", "/oauth/token/info//", 404, ""},
		{"POST", "//oauth/token", 404, ""},
		{"POST", "/x/../oauth/token", 404, ""},
		{"GET", "//evil.example/%2e%2e", 404, ""},
		{"GET", "/rest/v1.0/me", 404, ""},
		{"GET", "/internal/apps", 404, ""},
	} {
		got := send(t, noRedirects, newRequest(t, c.method, w.door+c.path, nil)).want(t, c.status)
		if allow := strings.Join(got.Header.Values("Allow"), ","); allow != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, allow, c.allow)
		}
		if to := got.Header.Get("Location"); to != "" {
			t.Errorf("%s %s leads to %s", c.method, c.path, to)
		}
		if got.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: no request id", c.method, c.path)
		}
	}
	page := w.get(t, "/nothing", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8").want(t, 404)
	if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a person who mistypes an address gets %s", page.Header.Get("Content-Type"))
	}
}
