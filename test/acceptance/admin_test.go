package acceptance

import (
	"fmt"
	"testing"
)

// admin calls production's admin API.
func (d *dev) admin(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return call{Method: method, URL: d.Admin.URL + "/admin/v1/environments/production" + path, Token: d.adminToken(t), JSON: body}.send(t)
}

// newApp registers an app and installs it in the demo companies of all three regions.
func (d *dev) newApp(t *testing.T, kind string, redirectURIs ...string) app {
	t.Helper()
	var made struct {
		ID           int64  `json:"id"`
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	name := "App of " + t.Name()
	d.admin(t, "POST", "/apps", map[string]any{"name": name, "kind": kind, "redirect_uris": redirectURIs}).want(t, 201).into(t, &made)
	a := app{Name: name, Kind: kind, ClientID: made.ClientID, ClientSecret: made.ClientSecret, RedirectURIs: redirectURIs}
	for _, c := range d.everywhere(t) {
		got := d.admin(t, "PUT", fmt.Sprintf("/apps/%d/installations/%d", made.ID, c.ID), map[string]any{})
		if got.Status/100 != 2 {
			t.Fatalf("install %s in %s: %v", name, c.Name, got)
		}
		a.Companies = append(a.Companies, c.ID)
	}
	return a
}

// newUser makes a user who is a member of these companies.
func (d *dev) newUser(t *testing.T, login string, companies ...int64) user {
	t.Helper()
	u := user{Login: login, Password: "correct horse battery staple", Companies: companies}
	d.admin(t, "POST", "/users", map[string]any{"login": login, "name": login, "password": u.Password, "companies": companies}).want(t, 201)
	return u
}
