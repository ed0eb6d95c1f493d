package login

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mpr/directory"
)

// refusedInternally checks status and code of a refusal by the internal listener.
func (a reply) refusedInternally(t *testing.T, status int, code string, fields ...string) {
	t.Helper()
	var body struct {
		Code   string              `json:"code"`
		Errors map[string][]string `json:"errors"`
	}
	a.want(t, status).json(t, &body)
	if body.Code != code {
		t.Errorf("code %s, want %s", body.Code, code)
	}
	for _, f := range fields {
		if len(body.Errors[f]) == 0 {
			t.Errorf("nothing is said of %s: %s", f, a.body)
		}
	}
}

func TestInternalSecret(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/internal/users?login=x", "/internal/apps", "/internal/keys", "/internal/companies?ids=1", "/internal/index/1?version=1"} {
		for name, header := range map[string][]string{"none": nil, "wrong": {"Authorization", "Bearer " + secret + "x"}, "Basic": {"Authorization", basic("x", secret)}} {
			got := send(t, noRedirects, newRequest(t, http.MethodGet, w.internal+path, nil, header...))
			if got.StatusCode != 401 {
				t.Errorf("%s, %s: %v", path, name, got)
			}
		}
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	var made, again, found user
	w.ask(t, "POST", "/internal/users", newUser{Login: " Alice@Example.com", Name: " Alice ", Password: password}).want(t, 201).json(t, &made)
	if made.ID == 0 || made.Login != "alice@example.com" || made.Name != "Alice" {
		t.Errorf("made %+v", made)
	}
	w.ask(t, "POST", "/internal/users", newUser{Login: "ALICE@example.com", Name: "Mallory", Password: "another password"}).refusedInternally(t, 409, "conflict")
	w.ask(t, "POST", "/internal/users?ensure=1", newUser{Login: "ALICE@example.com", Name: "Mallory"}).want(t, 200).json(t, &again)
	w.ask(t, "GET", "/internal/users?login=aLice%40example.com", nil).want(t, 200).json(t, &found)
	if again != made || found != made {
		t.Errorf("again %+v, found %+v", again, found)
	}
	var other user
	w.ask(t, "POST", "/internal/users?ensure=1", newUser{Login: "bob@example.com", Name: "Bob"}).want(t, 201).json(t, &other)
	if other.ID == made.ID {
		t.Error("two users with one id")
	}
	w.ask(t, "GET", "/internal/users?login=nobody@example.com", nil).refusedInternally(t, 404, "not_found")
	w.ask(t, "GET", "/internal/users?login=%00", nil).refusedInternally(t, 404, "not_found")
	for field, bad := range map[string]any{
		"login":    map[string]any{"login": "no address", "name": "x"},
		"name":     map[string]any{"login": "x@example.com", "name": " "},
		"password": map[string]any{"login": "x@example.com", "name": "x", "password": "short"},
	} {
		w.ask(t, "POST", "/internal/users", bad).refusedInternally(t, 422, "invalid", field)
	}
	w.ask(t, "POST", "/internal/users", map[string]any{"login": 7, "name": "x"}).refusedInternally(t, 422, "invalid", "login")
	w.ask(t, "POST", "/internal/users", map[string]any{"login": "x@example.com", "name": "a\x00b"}).refusedInternally(t, 422, "invalid", "name")
	w.ask(t, "POST", "/internal/users", []int{1}).refusedInternally(t, 400, "malformed_json")
	for _, body := range []string{"", "{", `{} {}`, "null x"} {
		r := newRequest(t, "POST", w.internal+"/internal/users", strings.NewReader(body), "Authorization", "Bearer "+secret)
		send(t, noRedirects, r).refusedInternally(t, 400, "malformed_json")
	}
	w.ask(t, "POST", "/internal/users", map[string]string{"name": strings.Repeat("x", 1<<17)}).refusedInternally(t, 413, "body_too_large")
	w.ask(t, "DELETE", "/internal/users", nil).refusedInternally(t, 405, "method_not_allowed")
	w.ask(t, "GET", "/internal/nothing", nil).refusedInternally(t, 404, "not_found")
}

// Passwords are kept as argon2id, secrets as fingerprints, never in the clear.
func TestNoSecretIsStored(t *testing.T) {
	w := newWorld(t)
	w.newPerson(t, "a@example.com")
	a := w.newApp(t, kindWeb, callback)
	var hash, fingerprinted string
	must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT password_hash FROM users`).Scan(&hash))
	must(t, w.db.Read().QueryRowContext(t.Context(), `SELECT secret_hash FROM apps`).Scan(&fingerprinted))
	if !strings.HasPrefix(hash, "argon2id$2$19456$1$") || strings.Contains(hash, password) {
		t.Errorf("password hash %s", hash)
	}
	if fingerprinted == a.ClientSecret || len(fingerprinted) != 64 {
		t.Errorf("secret hash %s", fingerprinted)
	}
}

func TestApps(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback, outOfBand)
	if len(a.ClientID) != 26 || len(a.ClientSecret) != 43 || len(a.RedirectURIs) != 2 {
		t.Errorf("made %+v", a)
	}
	if public := w.newApp(t, kindInstalled, callback); public.ClientSecret != "" {
		t.Error("a public client has a secret")
	}
	machine := w.newApp(t, kindTraditional)
	for _, path := range []string{fmt.Sprint("/internal/apps/", machine.ID), "/internal/apps/" + machine.ClientID} {
		shown := w.ask(t, "GET", path, nil).want(t, 200)
		if strings.Contains(string(shown.body), "client_secret") || !strings.Contains(string(shown.body), `"company":5`) || !strings.Contains(string(shown.body), `"redirect_uris":[]`) {
			t.Errorf("%s: %s", path, shown.body)
		}
	}
	for _, path := range []string{"/internal/apps/999", "/internal/apps/nobody", "/internal/apps/%00", "/internal/apps/99999999999999999999"} {
		w.ask(t, "GET", path, nil).refusedInternally(t, 404, "not_found")
	}
	var list struct {
		Apps  []app `json:"apps"`
		Total int   `json:"total"`
	}
	w.ask(t, "GET", "/internal/apps?page=2&per_page=2", nil).want(t, 200).json(t, &list)
	if list.Total != 3 || len(list.Apps) != 1 || list.Apps[0].ID != machine.ID || list.Apps[0].ClientSecret != "" {
		t.Errorf("list %+v", list)
	}
	w.ask(t, "GET", "/internal/apps?page=0", nil).refusedInternally(t, 400, "bad_request")
}

func TestRefusedApps(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		app   newApp
		field string
	}{
		"no name":                    {newApp{Kind: kindDeveloperManaged}, "name"},
		"unknown kind":               {newApp{Name: "x", Kind: "desktop"}, "kind"},
		"traditional, no company":    {newApp{Name: "x", Kind: kindTraditional}, "company"},
		"web with a company":         {newApp{Name: "x", Kind: kindWeb, RedirectURIs: []string{callback}, Company: 5}, "company"},
		"web without redirect URIs":  {newApp{Name: "x", Kind: kindWeb}, "redirect_uris"},
		"machine with redirect URIs": {newApp{Name: "x", Kind: kindDeveloperManaged, RedirectURIs: []string{callback}}, "redirect_uris"},
		"too many redirect URIs":     {newApp{Name: "x", Kind: kindWeb, RedirectURIs: make([]string, 21)}, "redirect_uris"},
	} {
		t.Run(name, func(t *testing.T) {
			w.ask(t, "POST", "/internal/apps", c.app).refusedInternally(t, 422, "invalid", c.field)
		})
	}
	for _, uri := range []string{
		"", "x", "/callback", "//host/x", "https://", "https:x", "http://app.example.com/", "https://a.example/#x", "https://a.example/ x", "https://user:pw@a.example/",
		"javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "https://a.example/\x00", `https://a.example\@evil/`, "https://bücher.example/", "https://a.example;script-src/",
		"urn:ietf:wg:oauth:2.0:oob:auto", "https://a.example/" + strings.Repeat("x", 2000),
	} {
		if why := wrongRedirectURI(uri); why == "" {
			t.Errorf("%q may be registered", uri)
		}
	}
	for _, uri := range []string{outOfBand, callback, "http://127.0.0.1:8080/cb", "http://localhost/cb", "http://[::1]:8080/cb", "com.example.app:/cb", "com.example.app://cb", "https://a.example:8443/x?y=z"} {
		if why := wrongRedirectURI(uri); why != "" {
			t.Errorf("%q may not be registered: %s", uri, why)
		}
	}
}

func TestSecretRotation(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	path := fmt.Sprintf("/internal/apps/%d/rotate-secret", a.ID)
	rotate := func(overlap int64) (next app) {
		w.ask(t, "POST", path, map[string]int64{"overlap_seconds": overlap}).want(t, 200).json(t, &next)
		return next
	}
	second := rotate(60)
	w.tokens(t, machineForm(a))
	w.tokens(t, machineForm(second))
	w.clock.advance(time.Minute)
	w.post(t, "/oauth/token", machineForm(a)).refused(t, 401, "invalid_client")
	third := rotate(0)
	w.post(t, "/oauth/token", machineForm(second)).refused(t, 401, "invalid_client")
	w.tokens(t, machineForm(third))
	for _, overlap := range []int64{-1, 1 << 62, 30*24*3600 + 1} {
		w.ask(t, "POST", path, map[string]int64{"overlap_seconds": overlap}).refusedInternally(t, 422, "invalid", "overlap_seconds")
	}
	public := w.newApp(t, kindInstalled, callback)
	// Sent twice, a request that says which secret it has seen ends no other.
	twice := map[string]any{"overlap_seconds": 60, "secret_id": third.SecretID}
	w.ask(t, "POST", path, twice).want(t, 200)
	w.ask(t, "POST", path, twice).refusedInternally(t, 409, "conflict")
	if again, err := w.service.appByID(t.Context(), a.ID); err != nil || !again.hasSecret(third.ClientSecret, w.service.Now()) || again.SecretID == third.SecretID {
		t.Errorf("the secret before it isn't valid any more: %v", err)
	}
	w.ask(t, "POST", fmt.Sprintf("/internal/apps/%d/rotate-secret", public.ID), struct{}{}).refusedInternally(t, 422, "invalid")
	w.ask(t, "POST", "/internal/apps/999/rotate-secret", struct{}{}).refusedInternally(t, 404, "not_found")
}

// Of two rotations at once, each has read the app before the other one has changed it. Both
// have told somebody a secret.
func TestRotationsAtOnce(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindDeveloperManaged)
	first, second := a, a
	must(t, w.service.rotateSecret(t.Context(), &first, time.Minute, ""))
	must(t, w.service.rotateSecret(t.Context(), &second, time.Minute, ""))
	w.tokens(t, machineForm(first))
	w.tokens(t, machineForm(second))
	w.post(t, "/oauth/token", machineForm(a)).refused(t, 401, "invalid_client")
}

func TestWaitingForTheIndex(t *testing.T) {
	w := newWorld(t)
	w.ask(t, "GET", "/internal/index/5?version=1", nil).want(t, http.StatusAccepted)
	w.ask(t, "GET", "/internal/index/5?version=1&wait_ms=1", nil).want(t, http.StatusAccepted)
	answered := make(chan reply, 1)
	r := newRequest(t, "GET", w.internal+"/internal/index/5?version=2&wait_ms=10000", nil, "Authorization", "Bearer "+secret)
	go func() {
		got, err := sendE(noRedirects, r)
		if err != nil {
			t.Error(err)
		}
		answered <- got
	}()
	w.change(t, named(5, 1, "Granite"))
	w.change(t, directory.Change{Company: 5, Version: 2, Kind: directory.ChangeMembership, Key: 7})
	(<-answered).want(t, http.StatusOK)
	for _, path := range []string{"/internal/index/0?version=1", "/internal/index/x?version=1", "/internal/index/5", "/internal/index/5?version=x", "/internal/index/5?version=1&wait_ms=x"} {
		w.ask(t, "GET", path, nil).refusedInternally(t, 400, "bad_request")
	}
}

func TestCompanyNames(t *testing.T) {
	w := newWorld(t)
	w.change(t, named(5, 1, "Granite"), named(598134325779301, 1, "Nordwerk"))
	w.indexed(t, 5, 1)
	w.indexed(t, 598134325779301, 1)
	var list []listedCompany
	w.ask(t, "GET", "/internal/companies?ids=598134325779301,4,5", nil).want(t, 200).json(t, &list)
	if len(list) != 2 || list[0] != (listedCompany{5, "Granite", true}) || list[1] != (listedCompany{598134325779301, "Nordwerk", true}) {
		t.Errorf("list %+v", list)
	}
	for _, ids := range []string{"", "x", "5,", "-5", "5%20", strings.Repeat("5,", 1001) + "5"} {
		w.ask(t, "GET", "/internal/companies?ids="+ids, nil).refusedInternally(t, 400, "bad_request")
	}
}
