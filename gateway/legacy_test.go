package gateway

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// at sets the clock of the rules.
func at(now time.Time) setup { return func(o *Options) { o.Now = func() time.Time { return now } } }

// with changes the policy.
func with(change func(*rules.Policy)) setup {
	return func(o *Options) {
		policy := rules.Seed()
		change(&policy)
		o.Policy = func() *rules.Policy { return &policy }
	}
}

var (
	lastDay  = time.Date(2019, time.June, 30, 23, 59, 59, 0, time.UTC)
	firstDay = time.Date(2019, time.July, 1, 0, 0, 0, 0, time.UTC)
)

func (g *gate) atLegacy(method, target string, h http.Header, body io.Reader) reply {
	g.t.Helper()
	return do(g.t, g.legacy.Client(), request(g.t, method, g.legacy.URL+target, h, body))
}

// "non-compliant applications will continue to function as expected for existing Procore
// Customers until June 30, 2019." Whatever the legacy door answers says so to programs.
func TestLegacyAnswersAreDeprecated(t *testing.T) {
	g := start(t, handlers{"US01": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `<https://app.procore.com/x?page=2>; rel="next"`)
		w.Header().Set("Sunset", "the region's")
	}, "login": echo})
	for name, got := range map[string]reply{
		"an answer":               g.atLegacy("GET", "/x?company_id=4711", g.header(0), nil),
		"a refusal":               g.atLegacy("GET", "/x", g.header(0), nil),
		"a refusal of a token":    g.atLegacy("GET", "/x", http.Header{}, nil),
		"a refusal of a target":   g.atLegacy("GET", "/x//y", g.header(0), nil),
		"a region that is away":   g.atLegacy("GET", "/x?company_id=5", g.header(0), nil),
		"authentication":          g.atLegacy("POST", "/oauth/token", http.Header{}, nil),
		"authentication metadata": g.atLegacy("GET", "/.well-known/oauth-authorization-server", http.Header{}, nil),
	} {
		if d := got.Header.Values("Deprecation"); len(d) != 1 || d[0] != "@1540944000" { // 2018-10-31
			t.Errorf("%s: Deprecation: %q", name, d)
		}
		if s := got.Header.Values("Sunset"); len(s) != 1 || s[0] != "Sun, 30 Jun 2019 23:59:59 GMT" {
			t.Errorf("%s: Sunset: %q", name, s)
		}
		links := strings.Join(got.Header.Values("Link"), ", ")
		if !strings.Contains(links, `<https://login.procore.com/required-changes>; rel="deprecation sunset"`) {
			t.Errorf("%s: Link: %s", name, links)
		}
		if name == "an answer" && !strings.Contains(links, `rel="next"`) {
			t.Errorf("the region's links are lost: %s", links)
		}
	}
	if got := g.send("GET", "/x", g.header(0), nil); got.Header.Get("Deprecation") != "" || got.Header.Get("Sunset") != "" {
		t.Errorf("the api door is deprecated: %v", got.Header)
	}
}

// "To continue serving existing Procore customers, you will need to make the above
// described changes by June 30, 2019, beyond which your apps and integrations may not
// work."
func TestSunset(t *testing.T) {
	up := handlers{"US01": echo, "login": echo, "identity": echo}
	open, closed := start(t, up, at(lastDay)), start(t, up, at(firstDay))
	for _, c := range []struct {
		target string
		header http.Header
	}{
		{"/x?company_id=4711", open.header(0)}, {"/x", open.header(inUS01)}, {"/rest/v1.0/me", open.header(0)}, {"/oauth/token", http.Header{}},
	} {
		open.atLegacy("GET", c.target, c.header, nil).want(t, 200, "")
		h := c.header.Clone()
		if h.Get("Authorization") != "" {
			h.Set("Authorization", "Bearer "+closed.user)
		}
		got := closed.atLegacy("GET", c.target, h, nil)
		if got.StatusCode != 410 {
			t.Errorf("%s: %s %s", c.target, got.Status, got.body)
		}
		for _, change := range []string{"https://login.procore.com", "https://api.procore.com", "Procore-Company-Id"} {
			if !strings.Contains(got.body, change) {
				t.Errorf("%s: no %q in %s", c.target, change, got.body)
			}
		}
		closed.send("GET", "/x", closed.header(inUS01), nil).want(t, 200, "")
	}
}

// A brownout leaves /oauth/* alone unless it names it: "some SDKs answer any error by
// spending a single-use refresh token".
func TestBrownoutsAndAuthentication(t *testing.T) {
	up := handlers{"US01": echo, "login": echo}
	window := rules.Brownout{Name: "b", From: lastDay.Add(-time.Hour), To: lastDay.Add(time.Minute), Share: 1}
	named := window
	named.Authentication, named.Apps = true, []string{"an app"}
	g := start(t, up, at(lastDay), with(func(p *rules.Policy) { p.Brownouts = []rules.Brownout{window, named} }))
	got := g.atLegacy("GET", "/x?company_id=4711", g.header(0), nil)
	got.want(t, 503, problem.LegacyBrownout)
	if got.Header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After: %q", got.Header.Get("Retry-After"))
	}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	g.atLegacy("POST", "/oauth/token", form, strings.NewReader("client_id=another")).want(t, 200, "")
	for name, c := range map[string]struct {
		target string
		header http.Header
		body   string
	}{
		"form":      {"/oauth/token", form, "grant_type=refresh_token&client_id=an+app"},
		"query":     {"/oauth/token?client_id=an%20app", http.Header{}, ""},
		"JSON":      {"/oauth/token", http.Header{"Content-Type": {"application/json"}}, `{"client_id":"an app"}`},
		"multipart": multipartOf(t, "client_id", "an app"),
		"Basic":     {"/oauth/token", http.Header{"Authorization": {"Basic YW4lMjBhcHA6c2VjcmV0"}}, ""},
	} {
		got := g.atLegacy("POST", c.target, c.header, strings.NewReader(c.body))
		// RFC 6749 section 5.2 knows no brownouts; the form of the answer stays.
		if got.StatusCode != 503 || !strings.Contains(got.body, "planned brownout") || !strings.Contains(got.body, `"error":`) {
			t.Errorf("%s: %s %s", name, got.Status, got.body)
		}
	}
}

func multipartOf(t *testing.T, name, value string) struct {
	target string
	header http.Header
	body   string
} {
	t.Helper()
	var b strings.Builder
	w := multipart.NewWriter(&b)
	must(t, w.WriteField("grant_type", "refresh_token"))
	must(t, w.WriteField(name, value))
	must(t, w.Close())
	return struct {
		target string
		header http.Header
		body   string
	}{"/oauth/token", http.Header{"Content-Type": {w.FormDataContentType()}}, b.String()}
}

// questions answers a gateway's questions as our regions do: it knows some projects, and
// whether the caller has access.
func questions(owners map[string]company.ID, access bool, asked *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Mpr-Question") {
		case "project":
			asked.Add(1)
			if r.Method != http.MethodGet || r.ContentLength > 0 {
				panic("a question with a body")
			}
			owner := owners[r.URL.Path]
			if owner == 0 {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Procore-Company-Id", owner.String())
			w.WriteHeader(http.StatusNoContent)
		case "access":
			if !access {
				w.WriteHeader(http.StatusForbidden)
			}
		default:
			echo(w, r)
		}
	}
}

// "a project id is resolved by its region bits and by the region that owns it"
func TestLegacyDoorResolvesProjects(t *testing.T) {
	const bornInEU = "598134325700001"
	var us, eu atomic.Int32
	g := start(t, handlers{
		"US01": questions(map[string]company.ID{"/rest/v1.0/projects/77": inUS01, "/rest/v1.0/projects/" + bornInEU + "/rfis": inUS01}, true, &us),
		"EU01": questions(map[string]company.ID{"/rest/v1.0/projects/88": inEU01}, true, &eu),
	})
	number(t, g, "EU01", 17)
	must(t, g.directory.PutRegion(t.Context(), company.RegionInfo{Code: "DE01", Number: 18, Upstreams: []string{g.upstream(http.NotFoundHandler())}}))
	g.until(func() bool { info, _ := g.replica.Region("DE01"); return info.Number == 18 })
	for _, c := range []struct {
		name, path string
		status     int
		code       problem.Code
		us, eu     int32 // questions
	}{
		{"born and living in the default region", "/rest/v1.0/projects/77", 200, "", 1, 0},
		{"the same again is remembered", "/rest/v1.0/projects/77", 200, "", 0, 0},
		{"born elsewhere, living in the default region", "/rest/v1.0/projects/" + bornInEU + "/rfis", 200, "", 1, 1},
		{"born in the default region, living elsewhere", "/rest/v1.0/projects/88", 403, problem.LegacyForbidden, 1, 1},
		{"unknown", "/rest/v1.0/projects/99", 403, problem.CompanyForbidden, 1, 1},
		{"no id", "/rest/v1.0/projects/x", 400, problem.MissingCompanyHeader, 0, 0},
	} {
		us.Store(0)
		eu.Store(0)
		got := g.atLegacy("POST", c.path, g.header(0, "Content-Type", "application/json"), strings.NewReader(`{"a":1}`))
		if got.StatusCode != c.status || us.Load() != c.us || eu.Load() != c.eu {
			t.Errorf("%s: %s after %d and %d questions: %s", c.name, got.Status, us.Load(), eu.Load(), got.body)
			continue
		}
		got.want(t, c.status, c.code)
		if c.status == 200 && (!strings.Contains(got.body, "Procore-Company-Id: 4711\r\n") || !strings.HasSuffix(got.body, "\n\n"+`{"a":1}`)) {
			t.Errorf("%s: the region got %s", c.name, got.body)
		}
	}
	// The api door asks nobody.
	g.send("GET", "/rest/v1.0/projects/77", g.header(0), nil).want(t, 400, problem.MissingCompanyHeader)
	// A client can't ask.
	if got := g.send("GET", "/x", g.header(inUS01, "Mpr-Question", "access"), nil); strings.Contains(got.body, "Question") {
		t.Errorf("a client's question goes through: %s", got.body)
	}
}

// number gives a region its number.
func number(t *testing.T, g *gate, code company.Region, n int) {
	t.Helper()
	info, _ := g.replica.Region(code)
	info.Number = n
	must(t, g.directory.PutRegion(t.Context(), info))
	g.until(func() bool { info, _ := g.replica.Region(code); return info.Number == n })
}

// A region that knows the project may be away: then it isn't known whose it is.
func TestProjectOfARegionThatIsAway(t *testing.T) {
	var asked atomic.Int32
	g := start(t, handlers{"US01": questions(nil, true, &asked)}) // DE01 is away
	got := g.atLegacy("GET", "/rest/v1.0/projects/77", g.header(0), nil)
	got.want(t, 503, problem.RegionUnavailable)
	if got.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// Who has no part in a company doesn't learn from the legacy door that it exists.
func TestLegacyDoorTellsStrangersNothing(t *testing.T) {
	for access, want := range map[bool]problem.Code{true: problem.LegacyForbidden, false: problem.CompanyForbidden} {
		t.Run(fmt.Sprint(access), func(t *testing.T) {
			var asked atomic.Int32
			g := start(t, handlers{"US01": echo, "EU01": questions(nil, access, &asked)})
			member := g.atLegacy("GET", "/x?company_id="+inEU01.String(), g.header(0), nil)
			member.want(t, 403, want)
			if !access {
				stranger := g.atLegacy("GET", "/x?company_id="+nowhere.String(), g.header(0), nil)
				if a, b := withoutID(member.body), withoutID(stranger.body); a != b {
					t.Errorf("%s\n%s", a, b)
				}
			}
		})
	}
}

// withoutID cuts the request id off a refusal.
func withoutID(body string) string { before, _, _ := strings.Cut(body, `"request_id"`); return before }

func FuzzNamed(f *testing.F) {
	f.Add([]byte(`{"company_id":4711}`), "application/json")
	f.Add([]byte("company_id=4711"), "application/x-www-form-urlencoded")
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=company_id\r\n\r\n4711\r\n--x--"), "multipart/form-data; boundary=x")
	f.Fuzz(func(t *testing.T, content []byte, _ string) {
		for _, id := range []company.ID{
			hinted(inJSON(content, "company_id")), hinted(inForm(string(content), "company_id")), hinted(inMultipart(content, "x", "company_id")),
			idBehind(string(content), "companies"), projectInPath(string(content)),
		} {
			if id < 0 {
				t.Errorf("%d from %q", id, content)
			}
		}
		if v, err := url.ParseQuery(string(content)); err == nil && v.Get("company_id") != inForm(string(content), "company_id") && !strings.Contains(string(content), ";") {
			t.Errorf("net/url reads %q, we %q", v.Get("company_id"), inForm(string(content), "company_id"))
		}
	})
}
