package acceptance

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/test/loopback"
	"mpr/test/nodes"
)

// hosts are the seed's hosts of each environment: "Monthly Sandbox - use the
// https://login-sandbox-monthly.procore.com/oauth base URL. Development Sandbox - use the
// https://login-sandbox.procore.com/oauth base URL."
var hosts = map[string]struct{ login, api string }{
	"production":          {"https://login.procore.com", "https://api.procore.com"},
	"monthly sandbox":     {"https://login-sandbox-monthly.procore.com", "https://api-monthly.procore.com"},
	"development sandbox": {"https://login-sandbox.procore.com", "https://sandbox.procore.com"},
}

// machine is a service account with a company of its own in the environment.
func (d *dev) machine(t *testing.T) (app, company) {
	t.Helper()
	c := d.newCompany(t, "US01", "2015-01-01")
	a := app{Name: "Account of " + t.Name(), Kind: "developer_managed"}
	d.admin(t, "POST", "/service-accounts", map[string]any{"name": a.Name, "kind": a.Kind, "companies": []int64{c.ID}}).want(t, 201).into(t, &a)
	return a, c
}

// Each environment answers under the seed's hosts, over TLS and with its own keys, and
// the header rule holds in all of them: "When making API calls to a sandbox environment,
// you must include the Procore-Company-Id request header as described above."
func TestEnvironmentsSideBySide(t *testing.T) {
	d := shared(t)
	client := d.hostsClient(t)
	keys := map[string]string{}
	tokens := map[string]string{}
	for name, host := range hosts {
		there := d.at(t, name)
		var metadata struct{ Issuer string }
		call{URL: host.login + "/.well-known/oauth-authorization-server", Client: client}.send(t).want(t, 200).into(t, &metadata)
		if metadata.Issuer != host.login {
			t.Errorf("the issuer of %s is %s", name, metadata.Issuer)
		}
		published := string(call{URL: host.login + "/oauth/jwks", Client: client}.send(t).want(t, 200).Body)
		if other, ok := keys[published]; ok {
			t.Errorf("%s and %s sign with the same keys", name, other)
		}
		keys[published] = name

		a, c := there.machine(t)
		var granted struct {
			Access string `json:"access_token"`
		}
		call{Method: "POST", URL: host.login + "/oauth/token", Client: client, Form: url.Values{
			"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret},
		}}.send(t).want(t, 200).into(t, &granted)
		tokens[name] = granted.Access
		call{URL: host.api + "/rest/v1.0/projects", Token: granted.Access, Company: c.ID, Client: client}.send(t).want(t, 200)
		call{URL: fmt.Sprintf("%s/rest/v1.0/projects?company_id=%d", host.api, c.ID), Token: granted.Access, Client: client}.send(t).wantCode(t, 400, "missing_company_header")
		call{URL: there.apiURL("/rest/v1.0/projects"), Token: granted.Access}.send(t).wantCode(t, 400, "missing_company_header")
	}
	for of, token := range tokens {
		for at := range hosts {
			if at != of {
				d.wantElsewhere(t, at, of, token)
			}
		}
	}
}

// wantElsewhere holds an environment to refusing a token of another one, at every door,
// with a hint to the right host.
func (d *dev) wantElsewhere(t *testing.T, at, of, token string) {
	t.Helper()
	there := d.at(t, at)
	for _, path := range []string{"/rest/v1.0/me", "/rest/v1.0/companies", "/rest/v1.0/projects"} {
		a := call{URL: there.apiURL("%s", path), Token: token, Company: 1}.send(t).wantCode(t, 401, "wrong_environment")
		if !strings.Contains(string(a.Body), "use "+hosts[of].api+`"`) {
			t.Errorf("%s refuses a token of %s with %s", at, of, a.Body)
		}
		if challenge := a.Header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s: WWW-Authenticate %q", at, challenge)
		}
	}
	// To OAuth it is a token that is no good, like any other.
	a := call{URL: there.loginURL("/oauth/token/info"), Token: token}.send(t).wantCode(t, 401, "invalid_token")
	if !strings.Contains(string(a.Body), hosts[of].api) {
		t.Errorf("%s refuses a token of %s with %s", at, of, a.Body)
	}
}

// "Registering an app makes a company there with seed data (three users, project "Sandbox
// Test Project", a few RFIs) and credentials of its own."
func TestDevelopmentSandbox(t *testing.T) {
	d := shared(t)
	box := d.at(t, "development sandbox")
	var machine, web app
	d.admin(t, "POST", "/service-accounts", map[string]any{"name": "Robot", "kind": "developer_managed"}).want(t, 201).into(t, &machine)
	d.admin(t, "POST", "/apps", map[string]any{"name": "Site", "kind": "web", "redirect_uris": []string{outOfBand}}).want(t, 201).into(t, &web)
	robot := app{ClientID: machine.Sandbox.ClientID, ClientSecret: machine.Sandbox.ClientSecret}
	token := box.machineToken(t, robot)
	at := machine.Sandbox.Company
	get := func(token string, company int64, path string) []object {
		return call{URL: box.apiURL("%s", path), Token: token, Company: company}.send(t).want(t, 200).objects(t)
	}
	if list := get(token, at, "/rest/v1.0/companies"); len(list) != 1 || list[0].ID != at {
		t.Errorf("List Companies: %+v", list)
	}
	projects := get(token, at, "/rest/v1.0/projects")
	if len(projects) != 1 || projects[0].Name != "Sandbox Test Project" {
		t.Fatalf("projects: %+v", projects)
	}
	if rfis := get(token, at, fmt.Sprintf("/rest/v1.0/projects/%d/rfis", projects[0].ID)); len(rfis) < 3 {
		t.Errorf("RFIs: %+v", rfis)
	}
	if users := get(token, at, fmt.Sprintf("/rest/v1.0/companies/%d/users", at)); len(users) != 3 {
		t.Errorf("users: %+v", users)
	}
	// Each of the three may sign in.
	site := app{ClientID: web.Sandbox.ClientID, ClientSecret: web.Sandbox.ClientSecret}
	for _, u := range web.Sandbox.Users {
		person := box.pair(t, codeForm(site, outOfBand, box.code(t, u, site, outOfBand))).Access
		if list := get(person, web.Sandbox.Company, "/rest/v1.0/companies"); len(list) != 1 || list[0].ID != web.Sandbox.Company {
			t.Errorf("%s sees the companies %+v", u.Login, list)
		}
	}
	// "Client credentials aren't shared": the answer says where they belong.
	for _, c := range []struct {
		at   string
		of   app
		hint string
	}{
		{"production", robot, hosts["development sandbox"].login},
		{"monthly sandbox", robot, hosts["development sandbox"].login},
		{"development sandbox", machine, hosts["production"].login},
		{"development sandbox", d.app(t, "traditional"), hosts["production"].login},
	} {
		refusal := d.at(t, c.at).exchange(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {c.of.ClientID}, "client_secret": {c.of.ClientSecret}}).
			wantCode(t, 401, "invalid_client")
		if !strings.Contains(string(refusal.Body), "use "+c.hint) {
			t.Errorf("%s: %s", c.at, refusal.Body)
		}
	}
}

// A registration that is cut off anywhere is completed by repeating it, and nothing is
// made twice.
func TestSandboxAfterACrash(t *testing.T) {
	d := startDev(t, t.TempDir())
	register := call{Method: "POST", Token: d.adminToken(t), JSON: map[string]any{
		"name": "Cut Off", "kind": "web", "redirect_uris": []string{outOfBand}, "idempotency_key": "cut-off",
	}}
	for _, there := range []func() bool{
		func() bool { return len(d.appsNamed(t, "Cut Off")) > 0 },
		func() bool { return d.at(t, "development sandbox").companiesNamed(t, "Cut Off Sandbox") > 0 },
		func() bool { return len(d.at(t, "development sandbox").appsNamed(t, "Cut Off")) > 0 },
	} {
		register.URL = d.Admin.URL + "/admin/v1/environments/production/apps"
		done := make(chan error, 1)
		go func() {
			_, err := register.do(context.WithoutCancel(t.Context()))
			done <- err
		}()
		eventually(t, 30*time.Second, func() (bool, string) { return there(), "nothing is made" })
		d.Kill(t)
		t.Logf("the request ended with %v", <-done)
		d.Restart(t)
	}
	register.URL = d.Admin.URL + "/admin/v1/environments/production/apps"
	var made app
	register.send(t).want(t, 201).into(t, &made)
	box := d.at(t, "development sandbox")
	if made.Sandbox == nil || made.Sandbox.Incomplete != "" || len(made.Sandbox.Users) != 3 || made.Sandbox.ClientID != "sandbox-"+made.ClientID {
		t.Fatalf("made %+v", made.Sandbox)
	}
	if here, there, companies := d.appsNamed(t, "Cut Off"), box.appsNamed(t, "Cut Off"), box.companiesNamed(t, "Cut Off Sandbox"); len(here) != 1 || len(there) != 1 || companies != 1 {
		t.Errorf("%v in production, %v and %d companies in the sandbox", here, there, companies)
	}
	// Secrets that were cut off can be had anew, and all of it works.
	site := app{ClientID: made.Sandbox.ClientID}
	box.admin(t, "POST", "/apps/"+site.ClientID+"/rotate-secret", map[string]any{}).want(t, 200).into(t, &site)
	token := box.pair(t, codeForm(site, outOfBand, box.code(t, made.Sandbox.Users[1], site, outOfBand))).Access
	projects := call{URL: box.apiURL("/rest/v1.0/projects"), Token: token, Company: made.Sandbox.Company}.send(t).want(t, 200).objects(t)
	if len(projects) != 1 || projects[0].Name != "Sandbox Test Project" {
		t.Errorf("projects: %+v", projects)
	}
}

// appsNamed are the client ids of the apps with this name.
func (d *dev) appsNamed(t *testing.T, name string) []string {
	t.Helper()
	var list struct{ Apps []app }
	d.admin(t, "GET", "/apps?per_page=1000", nil).want(t, 200).into(t, &list)
	list.Apps = slices.DeleteFunc(list.Apps, func(a app) bool { return a.Name != name })
	ids := make([]string, len(list.Apps))
	for i, a := range list.Apps {
		ids[i] = a.ClientID
	}
	return ids
}

// companiesNamed counts the companies whose name has this text in it.
func (d *dev) companiesNamed(t *testing.T, name string) int {
	t.Helper()
	var list struct{ Companies []company }
	d.admin(t, "GET", "/companies?q="+url.QueryEscape(name), nil).want(t, 200).into(t, &list)
	return len(list.Companies)
}

// A sandbox that can't be made doesn't keep an app from being registered, and is completed
// later.
func TestSandboxThatIsAway(t *testing.T) {
	node := nodes.Start(t, "directory", loopback.FreeAddresses(t, 1)[0], `jetstream { store_dir: "STORE", sync_interval: always }`)
	d := startWith(t, fmt.Sprintf("directory: {urls: [%q]}\n", node.URL))
	record := directoryRecord(t, node.URL, "regions_development-sandbox", "US01")
	whole := record("")
	record(regexp.MustCompile(`"internal":"[^"]*"`).ReplaceAllString(whole, `"internal":"http://127.0.0.1:1"`))
	var made, completed app
	d.admin(t, "POST", "/apps", map[string]any{"name": "Early", "kind": "web", "redirect_uris": []string{outOfBand}}).want(t, 201).into(t, &made)
	if made.ClientSecret == "" || made.Sandbox == nil || !strings.Contains(made.Sandbox.Incomplete, "US01") || made.Sandbox.ClientID != "" {
		t.Fatalf("made %+v %+v", made, made.Sandbox)
	}
	d.admin(t, "PUT", "/apps/"+made.ClientID+"/sandbox", nil).wantCode(t, 503, "region_unavailable")
	record(whole)
	d.admin(t, "PUT", "/apps/"+made.ClientID+"/sandbox", nil).want(t, 200).into(t, &completed)
	if completed.Sandbox.Incomplete != "" || completed.Sandbox.ClientSecret == "" || len(completed.Sandbox.Users) != 3 {
		t.Errorf("completed %+v", completed.Sandbox)
	}
}

// directoryRecord answers what reads a record of the directory, behind the back of all roles, or writes
// it where there is something to write.
func directoryRecord(t *testing.T, url, bucket, key string) func(text string) (was string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) string {
		t.Helper()
		was, err := kv.Get(t.Context(), key)
		if err == nil && text != "" {
			_, err = kv.Put(t.Context(), key, []byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(was.Value())
	}
}

// "an operator must be able to add such an environment by configuration alone."
const federalZone = `
  - name: federal zone
    login:
      host: login.procoregov.com
    api:
      host: api.procoregov.com
    regions:
      - code: US01
        number: 0
`

func TestAnEnvironmentByConfigurationAlone(t *testing.T) {
	example, err := os.ReadFile(filepath.Join("..", "..", "mpr.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := startWith(t, string(example)+federalZone)
	zone, client := d.at(t, "federal zone"), d.hostsClient(t)
	a, c := zone.machine(t)
	if a.Sandbox != nil {
		t.Errorf("an app of a zone without sandboxes has got %+v", a.Sandbox)
	}
	var granted struct {
		Access string `json:"access_token"`
	}
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.ClientID}, "client_secret": {a.ClientSecret}}
	call{Method: "POST", URL: "https://login.procoregov.com/oauth/token", Form: grant, Client: client}.send(t).want(t, 200).into(t, &granted)
	projects := call{URL: "https://api.procoregov.com/rest/v1.0/projects", Token: granted.Access, Client: client}
	projects.send(t).wantCode(t, 400, "missing_company_header")
	projects.Company = c.ID
	projects.send(t).want(t, 200)
	// Nothing crosses, in either direction.
	refusal := call{URL: d.apiURL("/rest/v1.0/me"), Token: granted.Access}.send(t).wantCode(t, 401, "wrong_environment")
	if !strings.Contains(string(refusal.Body), "This token belongs to federal zone: use https://api.procoregov.com") {
		t.Errorf("%s", refusal.Body)
	}
	call{URL: zone.apiURL("/rest/v1.0/me"), Token: d.userTokens(t).Access}.send(t).wantCode(t, 401, "wrong_environment")
	d.exchange(t, grant).wantCode(t, 401, "invalid_client")
	call{URL: "https://app.procoregov.com/", Client: client, Method: "GET"}.wantUnreachable(t)
}

// wantUnreachable holds the proxy to leading to the hosts of the configuration only.
func (c call) wantUnreachable(t *testing.T) {
	t.Helper()
	if a, err := c.do(t.Context()); err == nil {
		t.Errorf("%v", a)
	}
}
