package acceptance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (f *facts) legacyURL(format string, args ...any) string {
	return f.Environments[0].Legacy + fmt.Sprintf(format, args...)
}

// tokenAt gets, at a door, a token for the demo's developer-managed service account.
func (d *dev) tokenAt(t *testing.T, door string) string {
	t.Helper()
	a := d.app(t, "developer_managed")
	var pair struct {
		Access string `json:"access_token"`
	}
	call{Method: "POST", URL: door + "/oauth/token", Form: url.Values{
		"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret},
	}}.send(t).want(t, 200).into(t, &pair)
	return pair.Access
}

var threeChanges = []string{"https://login.procore.com", "https://api.procore.com", "Procore-Company-Id header"}

func (a answer) wantChanges(t *testing.T) {
	t.Helper()
	for _, change := range threeChanges {
		if !strings.Contains(string(a.Body), change) {
			t.Errorf("%v doesn't name %q", a, change)
		}
	}
}

// "non-compliant applications will continue to function as expected for existing Procore
// Customers until June 30, 2019. However, you will not be able to access data from new
// Procore customers."
func TestLegacyDoorBeforeTheSunset(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", "2019-01-15")
	old := d.in(t, "US01")
	token := d.tokenAt(t, d.Environments[0].Legacy) // its old login host works too
	list := func(q string) answer {
		return call{URL: d.legacyURL("/rest/v1.0/projects%s", q), Token: token}.send(t)
	}
	got := list(fmt.Sprintf("?company_id=%d", old.ID)).want(t, 200)
	if got.Header.Get("Deprecation") != "@1540944000" || got.Header.Get("Sunset") != "Sun, 30 Jun 2019 23:59:59 GMT" ||
		!strings.Contains(strings.Join(got.Header.Values("Link"), ", "), `<https://login.procore.com/required-changes>; rel="deprecation sunset"`) {
		t.Errorf("%v", got.Header)
	}
	project := call{Method: "POST", URL: d.legacyURL("/rest/v1.0/projects"), Token: token, JSON: map[string]any{
		"company_id": old.ID, "project": map[string]any{"name": "From an old app"},
	}}.send(t).want(t, 201).object(t).ID
	call{URL: d.legacyURL("/rest/v1.0/projects/%d", project), Token: token}.send(t).want(t, 200)
	call{Method: "POST", URL: d.legacyURL("/vapid/projects/%d/rfis", project), Token: token, JSON: map[string]any{
		"rfi": map[string]any{"subject": "Which door?"},
	}}.send(t).want(t, 201)
	call{URL: d.legacyURL("/rest/v1.0/companies/%d/users", old.ID), Token: token}.send(t).want(t, 200)
	call{URL: d.legacyURL("/rest/v1.0/me"), Token: token}.send(t).want(t, 200)
	call{URL: d.legacyURL("/rest/v1.0/projects"), Token: token, Company: old.ID}.send(t).want(t, 200)
	list("").wantCode(t, 400, "missing_company_header")

	newcomer := d.newCompany(t, "US01", "2018-10-31")
	machine := d.app(t, "developer_managed")
	d.install(t, &machine, newcomer.ID)
	for name, id := range map[string]int64{"another region": d.in(t, "EU01").ID, "new in the default region": newcomer.ID} {
		list(fmt.Sprintf("?company_id=%d", id)).wantCode(t, 403, "legacy_forbidden").wantChanges(t)
		// "[...] without implementing the Procore-Company-Id request header field, and
		// adopting the new API gateway domain (api.procore.com)": both.
		call{URL: d.legacyURL("/rest/v1.0/projects"), Token: token, Company: id}.send(t).wantCode(t, 403, "legacy_forbidden")
		if got := (call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: id}).send(t); got.Status != 200 {
			t.Errorf("%s with the changes: %v", name, got)
		}
	}
	// A company of others looks like one that doesn't exist.
	theirs := d.newCompany(t, "EU01", "2018-12-01")
	list(fmt.Sprintf("?company_id=%d", theirs.ID)).wantCode(t, 403, "app_not_connected")
	list("?company_id=987654321").wantCode(t, 403, "app_not_connected")
	page := call{URL: d.loginURL("/required-changes")}.send(t).want(t, 200)
	page.wantChanges(t)
	if !strings.Contains(string(page.Body), "work until June 30, 2019") {
		t.Errorf("%s", page.Body)
	}
}

// "beyond which your apps and integrations may not work": and through the api door
// nothing changes.
func TestLegacyDoorAfterTheSunset(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", "2019-07-01")
	old := d.in(t, "US01")
	token := d.tokenAt(t, d.Environments[0].Login)
	call{URL: d.legacyURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: token}.send(t).wantCode(t, 410, "legacy_sunset").wantChanges(t)
	call{URL: d.legacyURL("/rest/v1.0/me"), Token: token}.send(t).wantCode(t, 410, "legacy_sunset")
	a := call{Method: "POST", URL: d.legacyURL("/oauth/token"), Form: url.Values{"grant_type": {"client_credentials"}}}.send(t).want(t, 410)
	a.wantChanges(t)
	call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: old.ID}.send(t).want(t, 200)
	call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: token}.send(t).wantCode(t, 400, "missing_company_header")
	var where struct {
		Zone string `json:"zone"`
		Base string `json:"web_base_url"`
	}
	eu := d.in(t, "EU01").ID
	call{URL: d.apiURL("/rest/v1.0/company_base_url"), Token: token, Company: eu}.send(t).want(t, 200).into(t, &where)
	if where.Zone != "eu01" || where.Base != d.Environments[0].API {
		t.Errorf("company_base_url: %+v", where)
	}
}

// "Dates and brownouts can be changed while running: [...] in force on all gateways within
// a second."
func TestPolicyIsInForceWithinASecond(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", "2019-01-15")
	old, token := d.in(t, "US01"), d.tokenAt(t, d.Environments[0].Login)
	list := func() answer {
		return call{URL: d.legacyURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: token}.send(t)
	}
	list().want(t, 200)
	follows := func(status int, args ...string) {
		t.Helper()
		d.mpr(t, append(args, "--by", "the suite")...)
		took := eventually(t, 10*time.Second, func() (bool, string) { got := list(); return got.Status == status, got.String() })
		if took > time.Second {
			t.Errorf("%v: in force after %v", args, took)
		}
	}
	follows(410, "policy", "set", "--legacy-sunset", "2019-01-14")
	follows(200, "policy", "set", "--legacy-sunset", "2019-01-15")
	follows(503, "brownout", "add", "now", "--from", "2019-01-15T00:00:00Z", "--to", "2019-01-16T00:00:00Z")
	d.tokenAt(t, d.Environments[0].Legacy) // /oauth/* is left out
	follows(200, "brownout", "pause", "--all")
	follows(410, "app", "rehearse", d.app(t, "developer_managed").ClientID, "--to", "2019-01-16T00:00:00Z")
	// Nobody else rehearses.
	pair := d.userTokens(t)
	call{URL: d.legacyURL("/rest/v1.0/projects?company_id=%d", old.ID), Token: pair.Access}.send(t).want(t, 200)
	follows(200, "app", "rehearse", d.app(t, "developer_managed").ClientID, "--stop")
	follows(410, "policy", "set", "--legacy-sunset", "2019-01-14")
	// A restart keeps it.
	d.Stop(t)
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	list().want(t, 410)
}

// The SDK with its default host works before the sunset, gets the 410 after it, and
// passes once its host and company are set.
func TestJavaScriptSDKWithItsDefaultHost(t *testing.T) {
	need(t, "node")
	if _, err := os.Stat("jssdk/node_modules/@procore/js-sdk/package.json"); err != nil {
		lacking(t, "the npm packages of test/acceptance/jssdk are missing: run make test where npm is")
	}
	data := t.TempDir()
	d := startDev(t, data, "--as-of", "2019-01-15")
	old := d.in(t, "US01")
	token := d.userTokens(t).Access
	type outcome struct {
		Status, Count int
		Message       string
	}
	type report struct {
		Info         map[string]any
		Projects, Me outcome
	}
	run := func(changes map[string]any) (r report) {
		t.Helper()
		settings := map[string]any{"token": token, "company": old.ID, "login": "https://login.procore.com"}
		for k, v := range changes {
			settings[k] = v
		}
		text, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := filepath.Abs(d.CA)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "node", "--require", "./through-proxy.js", "legacy.js")
		cmd.Dir = "jssdk"
		cmd.Env = append(os.Environ(), "SDK_LEGACY="+string(text), "NODE_EXTRA_CA_CERTS="+ca, "HTTPS_PROXY="+d.Proxy, "NO_PROXY=", "no_proxy=")
		complaints := &logBook{}
		cmd.Stderr = complaints
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v %v", err, complaints)
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return r
	}
	if r := run(nil); r.Projects.Status != 200 || r.Projects.Count == 0 || r.Me.Status != 200 {
		t.Errorf("before the sunset: %+v", r)
	}
	d.mpr(t, "policy", "set", "--legacy-sunset", "2019-01-14")
	eventually(t, 10*time.Second, func() (bool, string) {
		got := call{URL: d.legacyURL("/rest/v1.0/me"), Token: token}.send(t)
		return got.Status == 410, got.String()
	})
	r := run(nil)
	if r.Projects.Status != 410 || r.Me.Status != 410 {
		t.Errorf("after the sunset: %+v", r)
	}
	for _, change := range threeChanges {
		if !strings.Contains(r.Projects.Message, change) {
			t.Errorf("no %q in %q", change, r.Projects.Message)
		}
	}
	if r := run(map[string]any{"api": "https://api.procore.com"}); r.Projects.Status != 200 || r.Projects.Count == 0 || r.Me.Status != 200 {
		t.Errorf("with the changes: %+v", r)
	}
}
