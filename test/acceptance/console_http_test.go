package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// visitor is somebody who has signed in at the control role with a browser that runs no scripts.
type visitor struct {
	*person
	d *dev
}

func (d *dev) visitor(t *testing.T, u user) *visitor {
	t.Helper()
	p := newPerson(t, d)
	back := p.toControl(t, d.Admin.URL+"/signin?to=/console/", u)
	if to := (call{Client: p.client, URL: back.String()}).send(t).want(t, 303).Header.Get("Location"); to != "/console/" {
		t.Fatalf("signed in, and led to %s", to)
	}
	return &visitor{p, d}
}

func (v *visitor) get(t *testing.T, path string) answer {
	t.Helper()
	return call{Client: v.client, URL: v.d.Admin.URL + path}.send(t)
}

// forms are the forms of a page.
func forms(t *testing.T, page []byte) (list []form) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		f := form{action: attribute(n, "action"), fields: url.Values{}}
		for e := range n.Descendants() {
			if e.Type == html.ElementNode && e.Data == "input" && attribute(e, "name") != "" {
				f.fields.Add(attribute(e, "name"), attribute(e, "value"))
			}
		}
		list = append(list, f)
	}
	return list
}

// form is the form of a page that posts to an action which ends like that.
func (v *visitor) form(t *testing.T, path, action string) form {
	t.Helper()
	page := v.get(t, path).want(t, 200)
	for _, f := range forms(t, page.Body) {
		if f.action == "" {
			f.action = path
		}
		if strings.HasSuffix(f.action, action) && f.fields.Has("csrf") {
			return f
		}
	}
	t.Fatalf("%s has no form for %s: %s", path, action, page.Body)
	return form{}
}

// send sends a form with further values.
func (v *visitor) send(t *testing.T, f form, pairs ...string) answer {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		f.fields.Set(pairs[i], pairs[i+1])
	}
	return call{Client: v.client, Method: "POST", URL: v.d.Admin.URL + f.action, Form: f.fields}.send(t)
}

func wantText(t *testing.T, a answer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(a.Body), html.EscapeString(text)) {
			t.Errorf("%s %s doesn't say %q: %s", a.call.Method, a.call.URL, text, a.Body)
		}
	}
}

// All of it works without a script, forms and redirects alone.
func TestConsoleWithoutScripts(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	made := v.send(t, v.form(t, "/console/production/companies/new", "/new"), "name", "Quiet Builders", "region", "US01", "onboarded", "2016-01-01").want(t, 303).Header.Get("Location")
	path, _, _ := strings.Cut(made, "?")
	wantText(t, v.get(t, made).want(t, 200), "The company was made.", "Quiet Builders")
	wantText(t, v.get(t, path+"?to=US02").want(t, 200), "Nothing keeps it from beginning.", "Move it to US02")
	v.send(t, v.form(t, path+"?to=US02", "/move"), "to", "US02").want(t, 303)
	eventually(t, stepWithin, func() (bool, string) {
		page := v.get(t, path).want(t, 200)
		return strings.Contains(string(page.Body), ">retained<"), string(page.Body)
	})
	// A key makes sending a form twice safe.
	f := v.form(t, "/console/production/companies/new", "/new")
	first := v.send(t, f, "name", "Twice", "region", "US01").want(t, 303).Header.Get("Location")
	if second := v.send(t, f).want(t, 303).Header.Get("Location"); first != second {
		t.Errorf("sent twice, it made %s and %s", first, second)
	}
	// What is wrong is told beside what was typed.
	wrong := v.send(t, v.form(t, "/console/production/companies/new", "/new"), "name", " ", "region", "US01", "onboarded", "2016-02-31").want(t, 422)
	wantText(t, wrong, "invalid", "request id", "onboarded", "2016-02-31")

	app := v.send(t, v.form(t, "/console/production/apps/new", "/new"), "name", "No Script", "kind", "web", "redirect_uris", "https://a.example/cb").want(t, 200)
	id := app.text(t, "client-id")
	if app.text(t, "client-secret") == "" || id == "" {
		t.Fatalf("no credentials: %s", app.Body)
	}
	settings := "/console/production/apps/" + id + "/settings"
	v.send(t, v.form(t, settings, "/redirects"), "redirect_uris", "https://a.example/cb\r\nhttps://b.example/cb\r\n").want(t, 303)
	wantText(t, v.get(t, settings).want(t, 200), "https://b.example/cb")
	wantText(t, v.send(t, v.form(t, settings, "/redirects"), "redirect_uris", "ftp://a.example").want(t, 422), "must start with https://")
	v.send(t, v.form(t, settings, "/limits"), "hour", "100", "spike", "").want(t, 303)
	wantText(t, v.get(t, settings).want(t, 200), "by "+d.Users[0].Login)
	v.send(t, v.form(t, settings, "/owners"), "login", d.Users[1].Login).want(t, 303)
	events := "/console/production/apps/" + id + "/events"
	v.send(t, v.form(t, events, "/events"), "url", "http://127.0.0.1:1/hook", "verb", "set").want(t, 303)
	wantText(t, v.send(t, v.form(t, events, "/events"), "verb", "test").want(t, 200), "The test failed")
	v.send(t, v.form(t, "/console/production/policy", "/dates"), "legacy_sunset", "2019-09-30", "note", "one more quarter").want(t, 303)
	stale := v.form(t, "/console/production/policy", "/dates")
	v.send(t, v.form(t, "/console/production/policy", "/dates"), "legacy_sunset", "2019-10-31").want(t, 303)
	wantText(t, v.send(t, stale, "legacy_sunset", "2019-07-31").want(t, 409), "Somebody else has changed the dates")
	eventually(t, stepWithin, func() (bool, string) { // gateways and control follow the policy
		page := v.get(t, "/console/production/").want(t, 200)
		return strings.Contains(string(page.Body), "until the end of 2019-10-31"), string(page.Body)
	})
	v.send(t, v.form(t, "/console/production/keys", "/keys")).want(t, 303)
	v.send(t, v.form(t, "/console/production/directory", "/drain"), "region", "US02", "verb", "drain").want(t, 303)
	wantText(t, v.get(t, "/console/production/directory").want(t, 200), "draining")
	v.send(t, v.form(t, "/console/production/operators", "/operators"), "login", d.Users[1].Login, "role", "viewer").want(t, 303)
	wantText(t, v.get(t, "/console/production/audit?subject="+id).want(t, 200), "PUT /apps/{app}/redirect-uris", "Of the last 30 days")
	exported := call{Client: v.client, URL: d.Admin.URL + "/admin/v1/audit.csv?subject=" + id}.send(t).want(t, 200)
	if !strings.Contains(string(exported.Body), "PATCH /apps/{app}/limits") {
		t.Errorf("the export: %s", exported.Body)
	}
}

// What each role sees, and may do: by the same table as the admin API.
func TestConsoleRoles(t *testing.T) {
	d := startDev(t, t.TempDir())
	alice, bob := d.Users[0], d.Users[1]
	admin, other := d.visitor(t, alice), d.visitor(t, bob)
	machine := d.app(t, "developer_managed").ClientID
	company := fmt.Sprintf("/console/production/companies/%d", d.in(t, "US01").ID)

	// Nobody is sent to sign in, and comes back.
	if to := (call{URL: d.Admin.URL + "/console/production/apps?q=a"}).send(t).want(t, 303).Header.Get("Location"); to != "/signin?to=%2Fconsole%2Fproduction%2Fapps%3Fq%3Da" {
		t.Errorf("led to %s", to)
	}
	call{Method: "POST", URL: d.Admin.URL + "/console/production/keys", Form: url.Values{}}.send(t).want(t, 401)

	// A developer has the portal.
	if to := other.get(t, "/console/").want(t, 303).Header.Get("Location"); to != "/developers/" {
		t.Errorf("a developer is led to %s", to)
	}
	for _, path := range []string{"/console/production/", company, "/console/production/apps", "/console/production/audit", "/console/production/operators"} {
		refused := other.get(t, path).want(t, 403)
		wantText(t, refused, "forbidden", "request id", "developers’ portal")
		if strings.Contains(string(refused.Body), "Granite") {
			t.Errorf("%s shows what it refuses", path)
		}
	}
	other.get(t, "/developers/apps/"+machine).want(t, 404)
	d.mpr(t, "app", "owner", "add", machine, bob.Login)
	wantText(t, other.get(t, "/developers/apps/"+machine).want(t, 200), "Nightly Sync")
	f := other.form(t, "/developers/apps/"+machine+"/settings", "/owners")
	wantText(t, other.send(t, f, "login", bob.Login, "remove", "1").want(t, 409), "the app's last owner")
	d.mpr(t, "app", "owner", "remove", machine, bob.Login)
	other.get(t, "/developers/apps/"+machine).want(t, 404)

	d.viewersChangeNothing(t, admin, other, bob)
	for _, path := range []string{"/console/nowhere/", "/console/production/companies/0x1", "/console/production/companies/99999999", "/console/production/apps/nobody", "/developers/x"} {
		wantText(t, admin.get(t, path).want(t, 404), "not_found", "request id")
	}
	admin.get(t, "/console/production/moves?page=0").want(t, 400)
	admin.get(t, "/console/production/audit?since=yesterday").want(t, 400)
	admin.get(t, "/console/production/companies?after=x").want(t, 400)
}

// viewersChangeNothing: a viewer sees all, and changes nothing.
func (d *dev) viewersChangeNothing(t *testing.T, admin, other *visitor, bob user) {
	t.Helper()
	machine, company := d.app(t, "developer_managed").ClientID, fmt.Sprintf("/console/production/companies/%d", d.in(t, "US01").ID)
	d.mpr(t, "operator", "grant", bob.Login, "--role", "viewer")
	csrf := url.Values{"csrf": {admin.form(t, "/console/production/keys", "/keys").fields.Get("csrf")}}
	own := ""
	for _, f := range forms(t, other.get(t, "/console/production/").want(t, 200).Body) {
		own = f.fields.Get("csrf")
	}
	for _, path := range []string{company, "/console/production/apps/" + machine, "/console/production/policy", "/console/production/directory"} {
		page := other.get(t, path).want(t, 200)
		for _, f := range forms(t, page.Body) {
			if f.fields.Has("csrf") && f.action != "/signout" {
				t.Errorf("%s offers a viewer the form %s", path, f.action)
			}
		}
	}
	for path, values := range map[string]url.Values{
		company + "/move": {"to": {"US02"}}, "/console/production/keys": {}, "/console/production/apps/" + machine + "/secret": {}, "/console/production/apps/" + machine + "/limits": {"hour": {"1"}},
		"/console/production/policy/brownouts/new": {"name": {"x"}, "share": {"5"}, "from": {"2030-01-01T10:00"}, "to": {"2030-01-01T11:00"}}, "/console/production/operators": {"login": {bob.Login}, "role": {"admin"}},
		"/console/production/directory/drain": {"region": {"US01"}, "verb": {"drain"}}, "/console/production/companies/new": {"name": {"x"}, "region": {"US01"}},
	} {
		values.Set("csrf", own)
		call{Client: other.client, Method: "POST", URL: d.Admin.URL + path, Form: values}.send(t).want(t, 403)
		// A form without the session's secret, or with that of somebody else, does nothing either.
		call{Client: admin.client, Method: "POST", URL: d.Admin.URL + path, Form: url.Values{}}.send(t).want(t, 403)
		call{Client: admin.client, Method: "POST", URL: d.Admin.URL + path, Form: csrf, Header: map[string]string{"Sec-Fetch-Site": "cross-site"}}.send(t).want(t, 403)
	}
}

// Every page is locked down, assets are cached for ever, and nothing of it may be framed.
func TestConsolePolicy(t *testing.T) {
	d := shared(t)
	v := d.visitor(t, d.Users[0])
	page := v.get(t, "/console/production/").want(t, 200)
	if policy := page.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "base-uri 'none'") {
		t.Errorf("the policy %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
		if got := page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	doc, err := html.Parse(bytes.NewReader(page.Body))
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for n := range doc.Descendants() {
		for _, name := range []string{"src", "href"} {
			if path := attribute(n, name); strings.HasPrefix(path, "/assets/") {
				loaded++
				asset := call{URL: d.Admin.URL + path}.send(t).want(t, 200)
				if !strings.Contains(asset.Header.Get("Cache-Control"), "immutable") {
					t.Errorf("%s isn't cached: %v", path, asset.Header)
				}
				if lines := bytes.Count(asset.Body, []byte("\n")); strings.HasSuffix(path, ".js") && lines >= 100 {
					t.Errorf("the script has %d lines", lines)
				}
			}
		}
	}
	if loaded != 2 {
		t.Errorf("the page loads %d files", loaded)
	}
	call{URL: d.Admin.URL + "/assets/console.css"}.send(t).want(t, 404)
}

// events are what a page sends of itself.
func (v *visitor) events(t *testing.T, path string) (lines <-chan string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", v.d.Admin.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	patient := *v.client
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
	}
	said := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(said)
		for in := bufio.NewReader(resp.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case said <- line:
			default: // more than a test looks at
			}
		}
	}()
	return said, func() {
		cancel()
		<-done
		_ = resp.Body.Close()
	}
}

// await reads lines until one begins like that; false where they end before.
func await(t *testing.T, lines <-chan string, begin string) bool {
	t.Helper()
	limit := time.After(stepWithin)
	for {
		select {
		case line, ok := <-lines:
			if !ok || strings.HasPrefix(line, begin) {
				return ok
			}
		case <-limit:
			t.Fatalf("nothing came that begins with %q", begin)
		}
	}
}

// Live updates end with the session and with the process, and there is a limit for each session.
func TestLiveUpdatesEnd(t *testing.T) {
	d := startDev(t, t.TempDir())
	v := d.visitor(t, d.Users[0])
	lines, end := v.events(t, "/console/production/")
	defer end()
	if !await(t, lines, "event: parts") {
		t.Fatal("they ended by themselves")
	}
	f := v.form(t, "/console/production/operators", "/sessions") // the newest, which is this one
	v.send(t, f).want(t, 303)
	if !await(t, lines, "event: over") || await(t, lines, "event: parts") {
		t.Error("they go on after the session")
	}

	v = d.visitor(t, d.Users[0])
	for range 20 {
		_, end := v.events(t, "/console/production/moves")
		defer end()
	}
	call{Client: v.client, URL: d.Admin.URL + "/console/production/moves", Header: map[string]string{"Accept": "text/event-stream"}}.send(t).want(t, 503)
	began := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("it stopped within %v", time.Since(began))
}
