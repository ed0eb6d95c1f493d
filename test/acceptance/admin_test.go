package acceptance

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// admin calls the admin API of the first environment, which is production.
func (d *dev) admin(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return call{Method: method, URL: d.Admin.URL + "/admin/v1/environments/" + url.PathEscape(d.Environments[0].Name) + path, Token: d.adminToken(t), JSON: body}.send(t)
}

// newApp registers an app and installs it in the demo companies of all three regions.
func (d *dev) newApp(t *testing.T, kind string, redirectURIs ...string) app {
	t.Helper()
	a := app{Name: "App of " + t.Name(), Kind: kind, RedirectURIs: redirectURIs}
	var made struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	d.admin(t, "POST", "/apps", map[string]any{"name": a.Name, "kind": kind, "redirect_uris": redirectURIs}).want(t, 201).into(t, &made)
	a.ClientID, a.ClientSecret = made.ClientID, made.ClientSecret
	for _, c := range d.everywhere(t) {
		d.install(t, &a, c.ID)
	}
	return a
}

// install connects an app to a company.
func (d *dev) install(t *testing.T, a *app, company int64) {
	t.Helper()
	if got := d.admin(t, "PUT", fmt.Sprintf("/apps/%s/installations/%d", a.ClientID, company), map[string]any{}); got.Status/100 != 2 {
		t.Fatalf("install %s in %d: %v", a.Name, company, got)
	}
	a.Companies = append(a.Companies, company)
}

// newUser makes a user who is a member of these companies, with a login that nobody had
// in an earlier run of the test.
func (d *dev) newUser(t *testing.T, name string, companies ...int64) user {
	t.Helper()
	u := user{Login: strings.ToLower(name + "-" + rand.Text()[:8] + "@example.com"), Password: "correct horse battery staple", Companies: companies}
	d.admin(t, "POST", "/users", map[string]any{"login": u.Login, "name": name, "password": u.Password, "companies": companies}).want(t, 201)
	return u
}

// newCompany onboards a company on a day.
func (d *dev) newCompany(t *testing.T, region, onboarded string) company {
	t.Helper()
	c := company{Name: "Company of " + t.Name(), Region: region}
	c.ID = d.admin(t, "POST", "/companies", map[string]any{"name": c.Name, "region": region, "onboarded": onboarded}).want(t, 201).object(t).ID
	return c
}
