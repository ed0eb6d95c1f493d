package acceptance

import (
	"encoding/json"
	"strings"
	"testing"
)

// A form that was sent, and is sent again with other content, makes nothing by the way and answers
// nothing that was made before; sent once more it makes what it says.
func TestKeysStandForOneContent(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const at = "/console/production/companies/new"
	f := v.form(t, at, "/new")
	wrong := v.send(t, f, "name", " ", "region", "US01", "onboarded", "2016-01-01").want(t, 422) // nothing was made: the key is free
	f = v.sentForm(t, wrong, "", "key")
	f.action = at
	path := func(a answer) string { return strings.Split(a.want(t, 303).Header.Get("Location"), "?")[0] }
	first := path(v.send(t, f, "name", "First Works", "region", "US01"))
	if again := path(v.send(t, f)); again != first {
		t.Errorf("sent twice, it made %s and %s", first, again)
	}
	for field, other := range map[string]string{"name": "Second Works", "region": "US02", "onboarded": "2016-01-02"} {
		before := f.fields.Get(field)
		wantText(t, v.send(t, f, field, other).want(t, 409), "idempotency_key_reused", "sent before with other content")
		f.fields.Set(field, before)
	}
	refused := v.sentForm(t, v.send(t, f, "name", "Second Works").want(t, 409), "", "key")
	refused.action = at
	if second := path(v.send(t, refused, "region", "US01")); second == first {
		t.Error("the form goes on standing for what it made first")
	}

	// The same of the admin API, for apps of both kinds.
	csrf := map[string]string{"X-Csrf-Token": f.fields.Get("csrf")}
	post := func(path string, body map[string]any, status int) (a app) {
		t.Helper()
		got := call{Client: v.client, Method: "POST", URL: d.Admin.URL + "/admin/v1/environments/production/" + path, Header: csrf, JSON: body}.send(t).want(t, status)
		if status == 409 {
			wantText(t, got, "idempotency_key_reused")
		}
		if err := json.Unmarshal(got.Body, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	asked := map[string]any{"name": "Keyed", "kind": "web", "redirect_uris": []string{"https://a.example/cb"}, "idempotency_key": "one key"}
	made := post("apps", asked, 201)
	if again := post("apps", asked, 201); made.ClientSecret == "" || again.ClientSecret != "" || again.ClientID != made.ClientID {
		t.Errorf("%+v, and repeated %+v", made, again)
	}
	asked["name"] = "Other"
	post("apps", asked, 409)
	post("service-accounts", map[string]any{"name": "Keyed", "kind": "developer_managed", "idempotency_key": "one key"}, 409)
}

// Whoever an app was taken away from doesn't get it back, nor the passwords of its sandbox, by sending
// again what once registered it.
func TestKeysOfThoseWhoWereRemoved(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	bob := d.visitor(t, d.Users[1])
	f := bob.form(t, "/developers/new", "/new")
	made := bob.send(t, f, "name", "Mine", "kind", "developer_managed").want(t, 200)
	id := made.text(t, "client-id")
	again := bob.send(t, f).want(t, 200)
	wantText(t, again, id, "It was registered before")
	d.mpr(t, "app", "owner", "add", id, d.Users[0].Login)
	d.mpr(t, "app", "owner", "remove", id, d.Users[1].Login)
	for range 2 {
		refused := bob.send(t, f).want(t, 403)
		wantText(t, refused, "isn't yours any more")
		for _, secret := range []string{id, "Password", "sandbox.example"} {
			if strings.Contains(string(refused.Body), secret) {
				t.Errorf("whoever was removed is shown %s", secret)
			}
		}
	}
	bob.get(t, "/developers/apps/"+id).want(t, 404)
	if list := string(d.mpr(t, "app", "owner", "list", id)); strings.Contains(list, d.Users[1].Login) {
		t.Errorf("they have it again: %s", list)
	}
}
