package acceptance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// What a form says that no button of ours does, what is too much, and what leads out of a path is
// refused, as an error of whoever sent it; nothing is changed.
func TestConsoleOddForms(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const in = "/console/production"
	d.mpr(t, "brownout", "add", "may-1", "--from", "2019-05-06T14:00:00Z", "--to", "2019-05-06T15:00:00Z")
	d.mpr(t, "brownout", "pause", "may-1")
	v.send(t, v.form(t, in+"/directory", "/drain"), "region", "US02", "verb", "drain").want(t, 303)
	company := fmt.Sprintf("%s/companies/%d", in, d.in(t, "US01").ID)
	app := in + "/apps/" + d.app(t, "web").ClientID
	csrf := v.form(t, in+"/keys", "/keys").fields.Get("csrf")
	for _, c := range []struct {
		path   string
		values url.Values
		status int
	}{
		{in + "/policy/brownouts", url.Values{"name": {"may-1"}}, 400},
		{in + "/policy/brownouts", url.Values{"name": {"may-1"}, "verb": {"x"}}, 400},
		{in + "/directory/drain", url.Values{"region": {"US02"}}, 400},
		{in + "/sandbox/companies", url.Values{"company": {"1"}, "verb": {"x"}}, 400},
		{company + "/steer", url.Values{"verb": {"x"}}, 400},
		{app + "/owners", url.Values{"login": {" "}}, 422},
		{app + "/owners", url.Values{"login": {".."}}, 404},
		{app + "/owners", url.Values{"login": {"."}, "remove": {"1"}}, 404},
		{app + "/events", url.Values{"verb": {"again"}, "event": {".."}}, 404},
		{in + "/operators", url.Values{"login": {""}, "role": {"admin"}}, 422},
		{in + "/operators", url.Values{"login": {".."}, "revoke": {"1"}}, 404},
		{app + "/redirects", url.Values{"redirect_uris": {strings.Repeat("a\n", 100_000)}}, 413},
		{in + "/apps/new", url.Values{"kind": {"web"}, "name": {strings.Repeat("x", 100_000)}, "redirect_uris": {"https://a.example"}}, 413},
	} {
		c.values.Set("csrf", csrf)
		refused := call{Client: v.client, Method: "POST", URL: d.Admin.URL + c.path, Form: c.values}.send(t).want(t, c.status)
		if strings.Contains(string(refused.Body), "/admin/v1") {
			t.Errorf("%s tells of paths that nobody sees: %s", c.path, refused.Body)
		}
	}
	wantText(t, v.get(t, in+"/policy").want(t, 200), "paused")
	wantText(t, v.get(t, in+"/directory").want(t, 200), "draining")
	wantText(t, v.get(t, in+"/apps/%2e%2e").want(t, 404), "is not the id or the client id of an app")

	// What was ticked stays ticked beside what is wrong.
	wrong := v.send(t, v.form(t, in+"/policy", "/brownouts/new"), "name", "x", "from", "2019-05-07T14:00", "to", "2019-05-07T13:00", "share", "5", "authentication", "1").want(t, 422)
	if !strings.Contains(string(wrong.Body), `name="authentication" value="1" checked`) {
		t.Error("a box that was ticked isn't any more")
	}
}

// Names of others are text wherever they are shown, and no formula in a spreadsheet.
func TestConsoleOddNames(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const evil = `=cmd|' /C calc'!A0 "><img src=x onerror=alert(1)><script>alert(2)</script></svg>`
	wide := evil + strings.Repeat("W", 100)
	at := strings.Split(v.send(t, v.form(t, "/console/production/companies/new", "/new"), "name", wide, "region", "US01", "onboarded", "2016-01-01").want(t, 303).Header.Get("Location"), "?")[0]
	made := v.send(t, v.form(t, "/developers/new", "/new"), "name", evil, "kind", "web", "redirect_uris", `https://a.example/cb?x="><script>alert(3)</script>`)
	if made.Status == 422 { // a URI must be one
		made = v.send(t, v.form(t, "/developers/new", "/new"), "name", evil, "kind", "web", "redirect_uris", "https://a.example/cb").want(t, 200)
	}
	app := "/apps/" + made.text(t, "client-id")
	wantText(t, v.get(t, "/developers/").want(t, 200), evil) // what operators register in the portal is theirs as well
	v.send(t, v.form(t, "/console/production/policy", "/brownouts/new"), "name", evil, "from", "2019-05-07T13:00", "to", "2019-05-07T14:00", "share", "5", "note", evil).want(t, 303)
	for _, path := range []string{"/developers" + app, "/developers" + app + "/settings", "/console/production" + app, "/console/production" + app + "/events", "/console/production/apps?tab=all", "/console/production/companies", at, "/console/production/policy", "/console/production/audit"} {
		page := v.get(t, path).want(t, 200)
		for _, raw := range []string{"<img", "<script>alert", "</svg>WWW", `"><` + "img"} {
			if strings.Contains(string(page.Body), raw) {
				t.Errorf("%s has %s in it", path, raw)
			}
		}
	}
	exported := call{Client: v.client, URL: d.Admin.URL + "/admin/v1/audit.csv"}.send(t).want(t, 200)
	for _, cell := range strings.FieldsFunc(string(exported.Body), func(r rune) bool { return r == ',' || r == '\n' }) {
		if strings.ContainsAny(cell[:1], "=+-@\t\r") {
			t.Errorf("a spreadsheet takes %s for a formula", cell)
		}
	}
	c := d.openConsole(t, newBrowser(t), d.Users[0], "/console/production/companies")
	for _, width := range []int64{1320, 380} {
		c.do(t, chromedp.EmulateViewport(width, 900))
		c.open(t, "/console/production/companies")
		if hidden := eval[int](t, c.browser, `[...document.querySelectorAll(".scrolls")].reduce((n, e) => n + (e.scrollWidth > e.clientWidth ? 1 : 0), 0)`); hidden > 0 && width > 1000 {
			t.Errorf("at %d pixels a long name hides the other columns", width)
		}
		if wider := eval[int](t, c.browser, `document.documentElement.scrollWidth - window.innerWidth`); wider > 0 {
			t.Errorf("at %d pixels the page is %d wider", width, wider)
		}
	}
}

// The audit log goes out as a whole, as CSV and as lines of JSON; and looking what a move would do is
// no change, which it tells of.
func TestAuditExport(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	company := d.in(t, "US01").ID
	wantText(t, v.get(t, fmt.Sprintf("/console/production/companies/%d?to=US02", company)).want(t, 200), "Nothing keeps it from beginning.")
	lines := call{Client: v.client, URL: d.Admin.URL + "/admin/v1/audit.jsonl"}.send(t).want(t, 200)
	actions := map[string]int{}
	for line := range strings.Lines(string(lines.Body)) {
		var e struct{ ID, At, By, Action, Outcome string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID == "" || e.At == "" || e.By == "" || e.Outcome == "" {
			t.Fatalf("%s: %v", line, err)
		}
		actions[e.Action]++
	}
	if actions["POST /companies"] != 3 || actions["POST /moves"] != 0 || actions["GET /moves/plan"] != 0 {
		t.Errorf("the log has %v", actions)
	}
	if page := v.get(t, "/console/production/audit").want(t, 200); !strings.Contains(string(page.Body), "/admin/v1/audit.jsonl") {
		t.Error("its page doesn't lead to it")
	}
	call{Client: v.client, URL: d.Admin.URL + "/admin/v1/audit.jsonl?since=yesterday"}.send(t).want(t, 400)
}

// Whoever rehearses hears nothing of the brownouts and rehearsals of others.
func TestOwnersSeeOwnCampaign(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	bob := d.visitor(t, d.Users[1])
	own := bob.send(t, bob.form(t, "/developers/new", "/new"), "name", "Mine", "kind", "developer_managed").want(t, 200).text(t, "client-id")
	other := d.app(t, "developer_managed").ClientID
	d.mpr(t, "app", "rehearse", other, "--to", "2019-04-25T00:00:00Z")
	d.mpr(t, "brownout", "add", "secret-plan", "--from", "2019-05-06T14:00:00Z", "--to", "2019-05-06T15:00:00Z", "--app", other)
	csrf := bob.form(t, "/developers/apps/"+own, "/rehearsal").fields.Get("csrf")
	answer := call{Client: bob.client, Method: "PUT", URL: d.Admin.URL + "/admin/v1/environments/production/apps/" + own + "/rehearsal", Header: map[string]string{"X-Csrf-Token": csrf}, JSON: map[string]string{"to": "2019-04-22T00:00:00Z"}}.send(t).want(t, 200)
	if !strings.Contains(string(answer.Body), own) || strings.Contains(string(answer.Body), other) || strings.Contains(string(answer.Body), "secret-plan") {
		t.Errorf("a developer is told %s", answer.Body)
	}
	if all := string(d.mpr(t, "policy", "show", "--json")); !strings.Contains(all, other) || !strings.Contains(all, "secret-plan") {
		t.Errorf("what others had planned is gone: %s", all)
	}
}

// Buttons that are pressed twice do once what they say: above all, a new secret with the old one beside
// it must not end the old one.
func TestConsoleTwice(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	machine := d.app(t, "developer_managed")
	settings := "/console/production/apps/" + machine.ClientID + "/settings"
	f := v.form(t, settings, "/secret")
	second := machine
	second.ClientSecret = v.send(t, f, "overlap", "24").want(t, 200).text(t, "client-secret")
	wantText(t, v.send(t, f).want(t, 409), "has a newer secret")
	d.machineToken(t, machine)
	d.machineToken(t, second)
	wantText(t, v.get(t, settings).want(t, 200), "The secret before is valid, too")
	events := "/console/production/apps/" + machine.ClientID + "/events"
	v.send(t, v.form(t, events, "/events"), "url", "http://127.0.0.1:1/hook", "verb", "set").want(t, 303)
	var rotate form
	for _, one := range forms(t, v.get(t, events).want(t, 200).Body) {
		if one.fields.Has("secret_id") {
			rotate = one
		}
	}
	v.send(t, rotate, "verb", "rotate").want(t, 303)
	v.send(t, rotate).want(t, 409)

	company := fmt.Sprintf("/console/production/companies/%d", d.in(t, "US01").ID)
	move := v.form(t, company+"?to=US02", "/move")
	v.send(t, move, "not_before", "2099-01-01T00:00").want(t, 303)
	v.send(t, move).want(t, 409)
	plan := v.form(t, "/console/production/policy", "/brownouts/new")
	v.send(t, plan, "name", "a\nb", "from", "2019-05-07T13:00", "to", "2019-05-07T14:00", "share", "5").want(t, 422)
	v.send(t, plan, "name", "once").want(t, 303)
	again := v.send(t, plan).want(t, 422)
	if text := string(again.Body); !strings.Contains(text, `<p class="why">is the name of another brownout</p>`) {
		t.Errorf("it isn't said beside the field: %s", text)
	}
	later := v.get(t, "/console/production/policy?month=2019-09").want(t, 200)
	wantText(t, later, "September 2019", "December 2019", "policy?month=2019-05", "policy?month=2020-01")
	v.get(t, "/console/production/policy?month=2019-13").want(t, 400)
}

// After the sign-out nothing is left to go back to, in the browser as at the server.
func TestConsoleAfterSignOut(t *testing.T) {
	d := startDev(t, t.TempDir())
	c := d.openConsole(t, newBrowser(t), d.Users[0], "/console/production/companies")
	c.shows(t, "tbody", "Granite Builders")
	c.open(t, "/console/production/keys")
	eval[int](t, c.browser, `document.querySelector(".me").open = 1`)
	c.do(t, chromedp.Click(chromedp.CSS(`form[action="/signout"] button`)), chromedp.WaitVisible(chromedp.CSS(`a[href^="/signin"]`)))
	for range 2 {
		c.do(t, chromedp.NavigateBack())
	}
	eventually(t, stepWithin, func() (bool, string) {
		at := eval[string](t, c.browser, `location.href`)
		return !strings.Contains(at, "/console/"), at
	})
	if text := eval[string](t, c.browser, `document.body.innerText`); strings.Contains(text, "Granite") || strings.Contains(text, d.Users[0].Login) && strings.Contains(text, "admin") {
		t.Errorf("going back shows %s", text)
	}
}

// Who isn't signed in any more is told so, and not led to sign in by a script that would do it again and
// again; and who was refused, since too many pages were live, tries again.
func TestLiveUpdatesComeBack(t *testing.T) {
	d := startDev(t, t.TempDir())
	const page = "/console/production/moves"
	over := call{URL: d.Admin.URL + page, Header: map[string]string{"Accept": "text/event-stream"}}.send(t).want(t, 200)
	if string(over.Body) != "event: over\ndata: session\n\n" || len(over.Header.Values("Set-Cookie")) > 0 {
		t.Errorf("who isn't signed in is told %q", over.Body)
	}
	v := d.visitor(t, d.Users[0])
	at, err := url.Parse(d.Admin.URL)
	if err != nil {
		t.Fatal(err)
	}
	b := startBrowser(t) // it complains of the refusal
	b.do(t, chromedp.Navigate(d.Admin.URL+"/"))
	for _, cookie := range v.client.Jar.Cookies(at) {
		eval[string](t, b, fmt.Sprintf("document.cookie = %q", cookie.Name+"="+cookie.Value+"; path=/"))
	}
	ends := make([]func(), 20)
	for i := range ends {
		_, ends[i] = v.events(t, page)
		defer ends[i]()
	}
	c := &console{b, d}
	c.open(t, page)
	state := func(want string) {
		t.Helper()
		eventually(t, stepWithin, func() (bool, string) {
			got := eval[string](t, b, `document.documentElement.dataset.state`)
			return got == want, "the page is " + got + ", not " + want
		})
	}
	state("lost")
	ends[0]()
	state("on")
}

// A viewer sees all apps, and is offered to change those that are theirs, in the portal.
func TestPortalOfViewers(t *testing.T) {
	d := startDev(t, t.TempDir())
	v := d.visitor(t, d.Users[1])
	app := d.app(t, "web").ClientID
	d.mpr(t, "operator", "grant", d.Users[1].Login, "--role", "viewer")
	offers := func() (n int) {
		t.Helper()
		for _, f := range forms(t, v.get(t, "/developers/apps/"+app+"/settings").want(t, 200).Body) {
			if f.action != "/signout" && f.fields.Has("csrf") {
				n++
			}
		}
		return n
	}
	if n := offers(); n != 0 {
		t.Errorf("%d forms are offered that a viewer may not send", n)
	}
	d.mpr(t, "app", "owner", "add", app, d.Users[1].Login)
	if offers() == 0 {
		t.Error("an owner who is a viewer can change nothing")
	}
}
