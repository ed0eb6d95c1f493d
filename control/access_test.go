package control

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"mpr/operator"
	"mpr/problem"
)

// everybody signs in somebody of each role, and answers the secrets of their sessions.
func everybody(t *testing.T, o *operator.Service, kind operator.Kind) map[operator.Role]string {
	t.Helper()
	secrets := map[operator.Role]string{}
	for i, role := range []operator.Role{operator.Developer, operator.Viewer, operator.Operator, operator.Admin} {
		u := operator.User{ID: int64(i + 1), Login: string(role) + "@example.com", Name: string(role), Credential: "x"}
		if role != operator.Developer {
			if _, err := o.Grant(t.Context(), nil, u, role, "the test"); err != nil {
				t.Fatal(err)
			}
		}
		secret, _, err := o.Begin(t.Context(), u, kind, "request-1")
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = secret
	}
	return secrets
}

// What each role may do. A change of the table is a change of this list, so that nobody makes it by
// the way.
var allowed = map[operator.Role][]string{
	operator.Developer: {"GET /admin/v1/session", "DELETE /admin/v1/session", "GET /admin/v1/sessions", "DELETE /admin/v1/sessions/{session}", "GET /own-apps", "POST /apps", "POST /service-accounts"},
	operator.Viewer: {
		"GET /admin/v1/environments", "GET /admin/v1/operators", "GET /admin/v1/audit", "GET /admin/v1/audit.csv", "GET /admin/v1/audit.jsonl", "GET /directory/verify", "GET /directory/verification", "GET /companies", "GET /companies/{company}", "GET /overview", "GET /apps/{app}/calls", "GET /apps/{app}/calls.csv", "GET /apps/{app}/owners", "GET /apps/{app}/installations",
		"GET /apps/{app}/compliance", "GET /apps/{app}/rehearsal",
		"GET /companies/{company}/moves", "GET /sandboxes/monthly", "GET /sandboxes/monthly/plan", "GET /regions", "GET /apps", "GET /apps/{app}", "GET /apps/{app}/limits", "GET /apps/{app}/webhook",
		"GET /apps/{app}/webhook/deliveries", "GET /keys", "GET /policy", "GET /moves", "GET /moves/{move}", "GET /moves/{move}/events", "GET /ledger", "GET /ledger/impact", "GET /ledger.csv",
	},
	operator.Operator: {
		"POST /companies", "POST /directory/verification", "PUT /companies/{company}/users", "PUT /companies/{company}/sandbox", "POST /sandboxes/monthly/refresh", "POST /regions/{region}/drain", "POST /regions/{region}/open",
		"POST /users", "POST /users/{login}/disable", "POST /users/{login}/enable", "PUT /users/{login}/password", "PUT /apps/{app}/owners/{login}", "DELETE /apps/{app}/owners/{login}", "PUT /apps/{app}/redirect-uris", "PUT /apps/{app}/rehearsal", "DELETE /apps/{app}/rehearsal", "POST /apps/{app}/rotate-secret", "PUT /apps/{app}/installations/{company}", "PUT /apps/{app}/sandbox", "PATCH /apps/{app}/limits",
		"DELETE /apps/{app}/limits", "PUT /apps/{app}/webhook", "DELETE /apps/{app}/webhook", "POST /apps/{app}/webhook/rotate", "POST /apps/{app}/webhook/test",
		"POST /apps/{app}/webhook/deliveries/{event}", "PUT /policy", "GET /moves/plan", "POST /moves", "POST /moves/{move}/pause", "POST /moves/{move}/resume", "POST /moves/{move}/abort",
	},
	operator.Admin: {"GET /admin/v1/directory/backup", "PUT /admin/v1/operators/{login}", "DELETE /admin/v1/operators/{login}", "POST /directory/rebuild", "POST /regions", "POST /keys/rotate"},
}

func TestTable(t *testing.T) {
	o := newOperators(t)
	base := serveWith(t, o, adminToken)
	secrets := everybody(t, o, operator.CommandLine)
	s := &Service{operators: o}
	table := s.table()
	n := 0
	for least, patterns := range allowed {
		for _, pattern := range patterns {
			n++
			if table[pattern].least != least {
				t.Errorf("%s takes %q, want %q", pattern, table[pattern].least, least)
			}
		}
	}
	if n != len(table) {
		t.Errorf("the table has %d routes, and this test knows %d", len(table), n)
	}
	for pattern, rt := range table {
		method, path, _ := strings.Cut(pattern, " ")
		if !strings.HasPrefix(path, systemPath) {
			path = prefix + "/production" + path
		}
		path = strings.NewReplacer("{", "", "}", "").Replace(path)
		for role, secret := range secrets {
			if role.Covers(rt.least) {
				continue
			}
			if rt.own && role == operator.Developer {
				request{method: method, path: path, token: "Bearer " + secret, status: 404, code: problem.NotFound, message: "no app app"}.expect(t, base)
				continue
			}
			request{method: method, path: path, token: "Bearer " + secret, status: 403, code: problem.Forbidden, message: "takes the role " + string(rt.least)}.expect(t, base)
		}
		request{method: method, path: path, token: "Bearer " + secrets[operator.Admin][1:], status: 401, code: problem.Unauthorized, wantHeader: "Www-Authenticate"}.expect(t, base)
	}
}

// A route that somebody forgets to give a role answers nobody.
func TestNoRoleIsNobody(t *testing.T) {
	o := newOperators(t)
	s := &Service{operators: o, token: adminToken, crossOrigin: http.NewCrossOriginProtection()}
	h := s.guard("GET /forgotten", route{h: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was answered") })})
	server := httptest.NewServer(problem.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})))
	defer server.Close()
	request{path: "/forgotten", status: 403, code: problem.Forbidden}.expect(t, server.URL)
}

// A cookie comes along with whatever a browser sends; a form of another site must do nothing.
func TestCookiesNeedMore(t *testing.T) {
	o := newOperators(t)
	base := serveWith(t, o, adminToken)
	admin := everybody(t, o, operator.Browser)[operator.Admin]
	n, err := o.Session(t.Context(), admin, operator.Browser)
	if err != nil {
		t.Fatal(err)
	}
	type send struct {
		method, path, body string
		header             map[string]string
		want               int
	}
	const operators = "/admin/v1/operators/viewer@example.com"
	for name, c := range map[string]send{
		"read":                     {"GET", "/admin/v1/operators", "", nil, 200},
		"no secret":                {"DELETE", operators, "", nil, 403},
		"another secret":           {"DELETE", operators, "", map[string]string{csrfHeader: n.CSRF()[1:]}, 403},
		"from another site":        {"DELETE", operators, "", map[string]string{csrfHeader: n.CSRF(), "Sec-Fetch-Site": "cross-site"}, 403},
		"from another origin":      {"DELETE", operators, "", map[string]string{csrfHeader: n.CSRF(), "Origin": "https://evil.example"}, 403},
		"sign out by another site": {"POST", signOutPath, url.Values{"csrf": {n.CSRF()}}.Encode(), map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"sign out without secret":  {"POST", signOutPath, "", nil, 403},
		"all of it":                {"DELETE", "/admin/v1/sessions/nobody", "", map[string]string{csrfHeader: n.CSRF(), "Sec-Fetch-Site": "same-origin"}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sendCookie(t, base, c.method, c.path, c.body, "mpr_operator_4090="+admin, c.header); got.StatusCode != c.want {
				t.Errorf("%s, want %d", got.Status, c.want)
			}
		})
	}
	// One kind of session is no good for the other.
	request{path: "/admin/v1/session", token: "Bearer " + admin, status: 401, code: problem.Unauthorized}.expect(t, base)
	cli := everybody(t, o, operator.CommandLine)[operator.Admin]
	if got := sendCookie(t, base, "GET", "/admin/v1/session", "", "mpr_operator_4090="+cli, nil); got.StatusCode != 401 {
		t.Errorf("a command line's session in a cookie: %s", got.Status)
	}
	// With the form's secret it works, and the session is gone.
	got := sendCookie(t, base, "POST", signOutPath, url.Values{"csrf": {n.CSRF()}}.Encode(), "mpr_operator_4090="+admin, map[string]string{"Sec-Fetch-Site": "same-origin"})
	if got.StatusCode != 303 || !strings.Contains(got.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("sign out: %s, %v", got.Status, got.Header)
	}
	if n, err := o.Session(t.Context(), admin, operator.Browser); n != nil || err != nil {
		t.Errorf("%+v, %v after signing out", n, err)
	}
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func sendCookie(t *testing.T, base, method, path, body, cookie string, header map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	got, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, got.Body)
	if err := errors.Join(err, got.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return got
}

// What is refused is in the log as well, with who asked; strangers don't fill it.
func TestRefusalsAreLogged(t *testing.T) {
	o := newOperators(t)
	base := serveWith(t, o, adminToken)
	secrets := everybody(t, o, operator.CommandLine)
	const path = prefix + "/production/users"
	request{method: "POST", path: path, body: `{}`, token: "Bearer " + secrets[operator.Viewer], status: 403, code: problem.Forbidden}.expect(t, base)
	request{method: "POST", path: path, body: `{"logn":1}`, status: 400, code: problem.MalformedJSON}.expect(t, base)
	request{method: "POST", path: path, body: `{}`, token: "-", status: 401, code: problem.Unauthorized}.expect(t, base)
	list, next, err := o.Entries(t.Context(), operator.Query{Subject: "users", Limit: 10})
	if err != nil || next != "" || len(list) != 2 {
		t.Fatalf("%+v, %q, %v", list, next, err)
	}
	if e := list[0]; e.By != ByToken || e.Role != operator.Admin || e.Outcome != "malformed_json" || e.Environment != "production" || e.Action != "POST /users" || e.RequestID == "" {
		t.Errorf("%+v", e)
	}
	if e := list[1]; e.By != "viewer@example.com" || e.Role != operator.Viewer || e.Outcome != "forbidden" {
		t.Errorf("%+v", e)
	}
}

// Where the token is turned off, it is as good as any other text.
func TestTokenTurnedOff(t *testing.T) {
	o := newOperators(t)
	base := serveWith(t, o, "")
	for _, shown := range []string{"", "Bearer ", "Bearer " + adminToken, "-"} {
		request{path: prefix, token: shown, status: 401, code: problem.Unauthorized, message: "turned off"}.expect(t, base)
	}
	request{path: prefix + "/x/y", token: "-", status: 401, code: problem.Unauthorized}.expect(t, base)
	if got := sendCookie(t, base, "GET", prefix, "", "", map[string]string{"Authorization": "Bearer " + everybody(t, o, operator.CommandLine)[operator.Viewer]}); got.StatusCode != 200 {
		t.Error(got.Status)
	}
}

func TestLocalPaths(t *testing.T) {
	for text, want := range map[string]string{
		"/companies?q=a": "/companies?q=a", "/": "/", "": "/", "companies": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example": "/", "/\t/evil.example": "/",
		"javascript:alert(1)": "/", "/a\nb": "/", "\\\\evil": "/", "/%2f%2fevil": "/%2f%2fevil", "http:/evil": "/", "/" + strings.Repeat("a", 1000): "/",
	} {
		if got := localPath(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A place to go on to never leads away, whatever stands there.
func FuzzLocalPath(f *testing.F) {
	for _, text := range []string{"/a", "//a", "/\\a", "/a?b=//c", "http://a", "/;//a", "/.//a", "/a/..//b"} {
		f.Add(text)
	}
	base, err := url.Parse("https://control.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := localPath(text)
		to, err := base.Parse(got)
		if err != nil || to.Host != base.Host || to.Scheme != base.Scheme || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t") {
			t.Errorf("%q leads to %v, %v", text, to, err)
		}
	})
}

func FuzzSignInQuery(f *testing.F) {
	f.Add("port=1&challenge=" + strings.Repeat("a", 43) + "&state=" + strings.Repeat("b", 43))
	f.Add("port=0")
	f.Add("port=70000&to=//x")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		p, err := readSignIn(q)
		if err == nil && (p.Port < 0 || p.Port > 65535 || q.Has("port") && (p.Port == 0 || !operator.IsChallenge(p.Challenge))) {
			t.Errorf("%q: %+v", query, p)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	sealed, err := seal("secret", "cookie", pending{State: "s"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		if p, err := unseal("secret", "cookie", value); err == nil && value != sealed {
			t.Errorf("%q opens as %+v", value, p)
		}
	})
}

func TestSealsAreForOneCookie(t *testing.T) {
	p := pending{State: "s", Verifier: "v", Port: 7}
	sealed, err := seal("secret", "a", p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal("secret", "a", sealed); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
	for _, other := range [][2]string{{"secret", "b"}, {"another", "a"}} {
		if got, err := unseal(other[0], other[1], sealed); err == nil {
			t.Errorf("%q opens it: %+v", other, got)
		}
	}
}

func FuzzAuditQuery(f *testing.F) {
	f.Add("since=2019-04-01T14:00:00Z&per_page=7&by=a&after=1-A")
	f.Add("per_page=0")
	o := operatorsOf(f)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := readAuditQuery(values)
		if err == nil {
			_, _, err = o.Entries(t.Context(), q)
		}
		if err != nil && problem.From(err).Code.Status() >= 500 {
			t.Errorf("%q: %v", query, err)
		}
	})
}

// A sign-in that has taken too long, or that another browser began, is no good.
func TestPendingSignIns(t *testing.T) {
	base := serve(t)
	state := operator.NewSecret()
	s := &Service{secret: "internal-secret", signIn: SignIn{URL: ownURL}}
	name := s.pendingCookie(state)
	cookie := func(p pending) string {
		sealed, err := seal("internal-secret", name, p)
		if err != nil {
			t.Fatal(err)
		}
		return name + "=" + sealed
	}
	soon := time.Now().Add(time.Minute).Unix()
	for what, c := range map[string]string{
		"no cookie":      "",
		"another state":  cookie(pending{State: operator.NewSecret(), Until: soon}),
		"too long ago":   cookie(pending{State: state, Until: time.Now().Add(-time.Second).Unix()}),
		"not ours":       name + "=" + operator.NewSecret(),
		"the error page": cookie(pending{State: state, Until: soon}),
	} {
		got := sendCookie(t, base, "GET", callbackPath+"?error=server_error&state="+state, "", c, nil)
		if got.StatusCode != 400 || strings.Contains(got.Header.Get("Set-Cookie"), "mpr_operator") {
			t.Errorf("%s: %s, %v", what, got.Status, got.Header)
		}
	}
	got := sendCookie(t, base, "GET", callbackPath+"?error=access_denied&state="+state, "", cookie(pending{State: state, Until: soon}), nil)
	if got.StatusCode != 403 || !strings.Contains(got.Header.Get("Set-Cookie"), name+"=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax") {
		t.Errorf("denied: %s, %v", got.Status, got.Header)
	}
	if csp := got.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("policy %q", csp)
	}
}

// Whoever comes by another name goes on at the one that cookies are for, once.
func TestSignInAtOneName(t *testing.T) {
	base := serve(t) // at another port than its URL says
	got := sendCookie(t, base, "GET", signInPath+"?to=/x", "", "", nil)
	if to := got.Header.Get("Location"); got.StatusCode != 303 || to != ownURL+signInPath+"?again=1&to=%2Fx" {
		t.Errorf("%s to %s", got.Status, to)
	}
	if got := sendCookie(t, base, "GET", signInPath+"?again=1", "", "", nil); got.StatusCode != 503 { // no login service is there
		t.Errorf("again: %s", got.Status)
	}
}

// Over https the names of cookies keep other hosts from setting them.
func TestCookieNames(t *testing.T) {
	for base, want := range map[string]string{"https://control.example": "__Host-mpr_operator", "http://127.0.0.1:4090": "mpr_operator_4090", "http://localhost": "mpr_operator_80"} {
		s := &Service{signIn: SignIn{URL: base}}
		if got := s.sessionCookie(); got != want {
			t.Errorf("%s: %s", base, got)
		}
		w := httptest.NewRecorder()
		s.setCookie(w, s.sessionCookie(), "x", 60)
		if c := w.Header().Get("Set-Cookie"); !strings.Contains(c, "; HttpOnly") || !strings.Contains(c, "SameSite=Lax") || strings.Contains(c, "; Secure") != strings.HasPrefix(base, "https") || strings.Contains(c, "Domain") {
			t.Errorf("%s: %s", base, c)
		}
	}
}
