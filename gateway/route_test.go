package gateway

import (
	"net/http"
	"strings"
	"testing"

	"mpr/problem"
	"mpr/rules"
)

// "Each call your application makes to the Procore API must contain a request header that
// includes the Procore-Company-Id field. This request header field specifies the id of the
// company into which you are making the call."
func TestCallsReachTheRegionOfTheirCompany(t *testing.T) {
	g := start(t, handlers{
		"US01":     func(w http.ResponseWriter, r *http.Request) { w.Header().Set("At", "US01"); echo(w, r) },
		"EU01":     func(w http.ResponseWriter, r *http.Request) { w.Header().Set("At", "EU01"); echo(w, r) },
		"identity": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("At", "identity"); echo(w, r) },
		"login":    func(w http.ResponseWriter, r *http.Request) { w.Header().Set("At", "login"); echo(w, r) },
	})
	for _, c := range []struct {
		target string
		header http.Header
		at     string
		sees   []string
	}{
		{"/rest/v1.0/projects?company_id=4711", g.header(inUS01), "US01", []string{"GET /rest/v1.0/projects?company_id=4711\n", "Procore-Company-Id: 4711", "Mpr-Epoch: 3"}},
		{"/rest/v1.0/projects", g.header(inEU01), "EU01", []string{"Procore-Company-Id: 598134325779301", "Authorization: Bearer ey"}},
		{"/rest/v1.0/me", g.header(0), "identity", []string{"Authorization: Bearer ey"}},
		{"/rest/v1.0/companies?page=2", g.header(0), "identity", []string{"GET /rest/v1.0/companies?page=2\n"}},
		{"/rest/v1.0/me", g.header(inEU01), "identity", []string{"Procore-Company-Id: 598134325779301", "Mpr-Epoch: 3"}},
		{"/oauth/token/info", http.Header{}, "login", []string{"Host: " + g.api.Listener.Addr().String()}},
		{"/.well-known/oauth-authorization-server", http.Header{}, "login", nil},
	} {
		got := g.send("GET", c.target, c.header, nil)
		if got.StatusCode != 200 || got.Header.Get("At") != c.at {
			t.Errorf("%s: %s at %q, want %s: %s", c.target, got.Status, got.Header.Get("At"), c.at, got.body)
		}
		for _, line := range c.sees {
			if !strings.Contains(got.body, line) {
				t.Errorf("%s: no %q in %s", c.target, line, got.body)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	g := start(t, handlers{"US01": echo, "EU01": echo})
	traditional := g.header(inEU01)
	traditional.Set("Authorization", "Bearer "+g.sign(rules.TraditionalToken, inUS01))
	managed := g.header(0)
	managed.Set("Authorization", "Bearer "+g.sign(rules.DeveloperManagedToken, 0))
	twice := g.header(inEU01)
	twice.Add("Procore-Company-Id", "4711")
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		status         int
		code           problem.Code
	}{
		"no token":                     {"GET", "/rest/v1.0/projects", http.Header{}, 401, problem.MissingToken},
		"no token on an exempt call":   {"GET", "/rest/v1.0/me", http.Header{}, 401, problem.MissingToken},
		"a bad token":                  {"GET", "/rest/v1.0/projects", http.Header{"Authorization": {"Bearer x"}}, 401, problem.InvalidToken},
		"another scheme":               {"GET", "/rest/v1.0/projects", http.Header{"Authorization": {"Basic eDp4"}}, 401, problem.InvalidToken},
		"two tokens":                   {"GET", "/rest/v1.0/projects", http.Header{"Authorization": {"Bearer " + g.user, "Bearer " + g.user}}, 401, problem.InvalidToken},
		"no header":                    {"GET", "/rest/v1.0/projects?company_id=4711", g.header(0), 400, problem.MissingCompanyHeader},
		"no header, POST to an exempt": {"POST", "/rest/v1.0/me", g.header(0), 400, problem.MissingCompanyHeader},
		"two headers":                  {"GET", "/rest/v1.0/projects", twice, 400, problem.InvalidCompanyHeader},
		"no header, service account":   {"GET", "/rest/v1.0/me", managed, 400, problem.MissingCompanyHeader},
		"unknown company":              {"GET", "/rest/v1.0/projects", g.header(nowhere), 403, problem.CompanyForbidden},
		"another's service account":    {"GET", "/rest/v1.0/projects", traditional, 403, problem.AppNotConnected},
		"a region that is away":        {"GET", "/rest/v1.0/projects", g.header(inDead), 503, problem.RegionUnavailable},
		"identity away":                {"GET", "/rest/v1.0/me", g.header(0), 503, problem.IdentityUnavailable},
		"a large header":               {"GET", "/rest/v1.0/projects", g.header(inEU01, "X-Large", strings.Repeat("x", 40<<10)), 431, problem.HeaderTooLarge},
		"TRACE":                        {"TRACE", "/rest/v1.0/projects", g.header(inEU01), 405, problem.MethodNotAllowed},
		"an odd path":                  {"GET", "/rest/v1.0//projects", g.header(inEU01), 400, problem.RequestTargetRejected},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.send(c.method, c.target, c.header, nil)
			got.want(t, c.status, c.code)
			if challenge := got.Header.Get("WWW-Authenticate"); (c.status == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate: %q", challenge)
			} else if strings.Contains(challenge, "invalid_token") != (c.code == problem.InvalidToken) {
				t.Errorf("WWW-Authenticate names an error where no token was sent, or none where one was: %q", challenge)
			}
			if (c.status == 503) != (got.Header.Get("Retry-After") == "1") {
				t.Errorf("Retry-After: %q", got.Header.Get("Retry-After"))
			}
		})
	}
	if got := g.send("GET", "/rest/v1.0/projects", g.header(inDead), nil); !strings.Contains(got.body, `"region":"DE01"`) {
		t.Errorf("the region isn't named: %s", got.body)
	}
	// At /oauth the form is that of RFC 6749 section 5.2.
	if got := g.send("POST", "/oauth/token", http.Header{}, nil); got.StatusCode != 503 || !strings.Contains(got.body, `"error":"temporarily_unavailable"`) {
		t.Errorf("login away: %s %s", got.Status, got.body)
	}
}

// The legacy door takes the company from where older applications name it.
func TestLegacyHints(t *testing.T) {
	g := start(t, handlers{"US01": echo, "EU01": echo})
	const js, form = "application/json", "application/x-www-form-urlencoded; charset=utf-8"
	for name, c := range map[string]struct {
		method, target, kind, body string
		status                     int
	}{
		"path":               {"GET", "/rest/v1.0/companies/4711/users", "", "", 200},
		"old path":           {"GET", "/vapid/companies/4711", "", "", 200},
		"query":              {"GET", "/rest/v1.0/projects?a=1&company_id=4711", "", "", 200},
		"encoded query":      {"GET", "/rest/v1.0/projects?company%5Fid=4711", "", "", 200},
		"JSON":               {"POST", "/rest/v1.0/projects", js, `{"project":{"name":"x"},"company_id":4711}`, 200},
		"JSON, text":         {"POST", "/rest/v1.0/projects", js, `{"company_id":"4711"}`, 200},
		"form":               {"POST", "/rest/v1.0/projects", form, `project[name]=x&company_id=4711`, 200},
		"nothing":            {"GET", "/rest/v1.0/offices/5", "", "", 400},
		"not a company":      {"GET", "/rest/v1.0/companies/x/users", "", "", 400},
		"another body":       {"POST", "/rest/v1.0/projects", "text/plain", `{"company_id":4711}`, 400},
		"malformed JSON":     {"POST", "/rest/v1.0/projects", js, `{"company_id":4711`, 400},
		"a large body":       {"POST", "/rest/v1.0/projects", js, `{"company_id":4711,"x":"` + strings.Repeat("x", 100<<10) + `"}`, 200},
		"late in it":         {"POST", "/rest/v1.0/projects", js, `{"x":"` + strings.Repeat("x", 100<<10) + `","company_id":4711}`, 400},
		"cut within it":      {"POST", "/rest/v1.0/projects", js, `{"x":"` + strings.Repeat("x", keepBody-len(`{"x":"","company_id":47`)) + `","company_id":4711}`, 400},
		"a large form":       {"POST", "/rest/v1.0/projects", "application/x-www-form-urlencoded", "company_id=4711&x=" + strings.Repeat("x", 100<<10), 400},
		"another region":     {"GET", "/rest/v1.0/companies/598134325779301/users", "", "", 403},
		"no such company":    {"GET", "/rest/v1.0/companies/999/users", "", "", 403},
		"exempt, no company": {"GET", "/rest/v1.0/me", "", "", 503}, // identity is away in this test
	} {
		t.Run(name, func(t *testing.T) {
			h := g.header(0)
			if c.kind != "" {
				h.Set("Content-Type", c.kind)
			}
			got := do(t, g.legacy.Client(), request(t, c.method, g.legacy.URL+c.target, h, strings.NewReader(c.body)))
			got.want(t, c.status, "")
			if c.status == 200 && (!strings.Contains(got.body, "Procore-Company-Id: 4711\r\n") || !strings.HasSuffix(got.body, "\n\n"+c.body)) {
				t.Errorf("the region got %s", got.body)
			}
		})
	}
}

// Step 1 of a call needs the target to mean the same to everybody.
func TestCheckPath(t *testing.T) {
	for _, path := range []string{
		"/", "/rest/v1.0/me", "/rest/v1.0/me/", "/a.b/..c/d..", "/a%20b", "/a%25", "/%C3%BC", "/a;b=1/c", "/...", "/rest/v1.0/projects/5,6",
	} {
		if why := checkPath(path); why != "" {
			t.Errorf("%s is refused: %s", path, why)
		}
	}
	for _, path := range []string{
		"//", "//a", "/a//b", "/a//", "/.", "/..", "/a/.", "/a/..", "/./a", "/../a", "/a/./b", "/a/../b", "/a/..;x/b", "/a/.;/b", "/a%2fb", "/a%2Fb", "/%2e%2e/a",
		"/a%2Eb", "/a\\b", "/a%5cb", "/a%5C", "/a%00", "/a%0d%0a", "/a%7f", "/a%1F", "/a b", "/a\x00", "/a\x7f", "/a#b", "/a%", "/a%2", "/a%zz",
	} {
		if checkPath(path) == "" {
			t.Errorf("%q is accepted", path)
		}
	}
}
