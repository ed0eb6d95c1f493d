package acceptance

import (
	"encoding/json"
	"strings"
	"testing"
)

// sentForm is the form of a page, which came as an answer to a form, that posts to an action which ends
// like that.
func (v *visitor) sentForm(t *testing.T, page answer, action, field string) form {
	t.Helper()
	for _, f := range forms(t, page.Body) {
		if strings.HasSuffix(f.action, action) && f.fields.Has(field) {
			return f
		}
	}
	t.Fatalf("there is no form for %s: %s", action, page.Body)
	return form{}
}

// Whoever was overtaken by a colleague sees both, and overwrites nobody by pressing the button again.
func TestConsoleConflicts(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const policy = "/console/production/policy"
	sunset := func() string {
		t.Helper()
		var p struct {
			Campaign struct {
				Sunset string `json:"legacy_sunset"`
			} `json:"campaign"`
		}
		if err := json.Unmarshal(d.mpr(t, "policy", "show", "--json"), &p); err != nil {
			t.Fatal(err)
		}
		return p.Campaign.Sunset
	}
	stale := v.form(t, policy, "/dates")
	d.mpr(t, "policy", "set", "--legacy-sunset", "2019-10-31", "--note", "a colleague")
	refused := v.send(t, stale, "legacy_sunset", "2019-07-31", "note", "what I wanted").want(t, 409)
	wantText(t, refused, "Somebody else has changed the dates", "You had typed", "2019-07-31", "what I wanted", "2019-10-31")
	again := v.sentForm(t, refused, "/dates", "legacy_sunset")
	if got := again.fields.Get("legacy_sunset"); got != "2019-10-31" {
		t.Errorf("the form begins with %s, which isn't in force", got)
	}
	v.send(t, again).want(t, 303)
	if got := sunset(); got != "2019-10-31" {
		t.Errorf("a second press has set %s", got)
	}
	// What is wrong otherwise stays in the form, with what it was made from.
	stale = v.form(t, policy, "/dates")
	wrong := v.sentForm(t, v.send(t, stale, "legacy_sunset", "soon").want(t, 422), "/dates", "legacy_sunset")
	d.mpr(t, "policy", "set", "--legacy-sunset", "2019-11-30")
	v.send(t, wrong, "legacy_sunset", "2019-08-31").want(t, 409)
	if got := sunset(); got != "2019-11-30" {
		t.Errorf("a form that was corrected has set %s", got)
	}

	// A form that was made from an older secret goes on being refused: neither is lost.
	machine := d.app(t, "developer_managed")
	settings := "/console/production/apps/" + machine.ClientID + "/settings"
	rotate := v.form(t, settings, "/secret")
	second := machine
	second.ClientSecret = v.send(t, rotate, "overlap", "24").want(t, 200).text(t, "client-secret")
	refused = v.send(t, rotate).want(t, 409)
	wantText(t, refused, "Look at what is in force now.")
	v.send(t, v.sentForm(t, refused, "/secret", "secret_id")).want(t, 409)
	d.machineToken(t, machine)
	d.machineToken(t, second)
	// So does that of its part of the development sandbox, beside the other one.
	box := v.sentForm(t, v.get(t, settings), "/secret", "sandbox")
	if v.send(t, box).want(t, 200).text(t, "client-secret") == "" {
		t.Error("no secret of the development sandbox is shown")
	}
	refused = v.send(t, box).want(t, 409)
	wantText(t, refused, "sandbox-"+machine.ClientID+" has a newer secret", "Look at what is in force now.")
	v.send(t, v.sentForm(t, refused, "/secret", "sandbox")).want(t, 409)
	v.send(t, v.sentForm(t, refused, "/secret", "overlap")).want(t, 200)
	v.send(t, v.sentForm(t, v.get(t, settings), "/secret", "sandbox")).want(t, 200)
	events := "/console/production/apps/" + machine.ClientID + "/events"
	v.send(t, v.form(t, events, "/events"), "url", "http://127.0.0.1:1/hook", "verb", "set").want(t, 303)
	rotate = v.sentForm(t, v.get(t, events), "/events", "secret_id")
	v.send(t, rotate, "verb", "rotate").want(t, 303)
	refused = v.send(t, rotate).want(t, 409)
	v.send(t, v.sentForm(t, refused, "/events", "secret_id"), "verb", "rotate").want(t, 409)
}

// Rehearsals of apps come and go beside the dates, and in nobody's way; and whoever changes dates
// changes none.
func TestRehearsalsLeaveDatesAlone(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v, bob := d.visitor(t, d.Users[0]), d.visitor(t, d.Users[1])
	const policy = "/console/production/policy"
	own := bob.send(t, bob.form(t, "/developers/new", "/new"), "name", "Mine", "kind", "developer_managed").want(t, 200).text(t, "client-id")
	rehearse := func(to string) {
		t.Helper()
		bob.send(t, bob.form(t, "/developers/apps/"+own, "/rehearsal"), "to", to).want(t, 303)
	}
	for _, first := range []string{"2019-04-22T12:00", "2019-04-23T12:00"} { // from what is configured, and from what was set
		loaded := v.form(t, policy, "/dates")
		rehearse(first)
		v.send(t, loaded, "legacy_sunset", "2019-09-30").want(t, 303)
	}
	page := v.get(t, policy).want(t, 200)
	wantText(t, page, "2019-04-23 12:00:00", own, "by "+d.Users[0].Login)
	rehearse("2019-04-24T12:00")
	wantText(t, v.get(t, policy).want(t, 200), "by "+d.Users[0].Login) // who has set the dates, and not who rehearses

	type record struct {
		Revision uint64         `json:"revision"`
		Campaign map[string]any `json:"campaign"`
	}
	var seen record
	if err := json.Unmarshal(d.mpr(t, "policy", "show", "--json"), &seen); err != nil {
		t.Fatal(err)
	}
	rehearse("2019-04-25T12:00")
	put := func(status int) answer {
		t.Helper()
		body := map[string]any{"campaign": seen.Campaign, "revision": seen.Revision, "by": "the test"}
		return call{Client: v.client, Method: "PUT", URL: d.Admin.URL + "/admin/v1/environments/production/policy", Header: map[string]string{"X-Csrf-Token": v.form(t, policy, "/dates").fields.Get("csrf")}, JSON: body}.send(t).want(t, status)
	}
	seen.Campaign["legacy_sunset"] = "2019-10-31"
	if got := string(put(200).Body); !strings.Contains(got, "2019-04-25T12:00:00Z") || !strings.Contains(got, "2019-10-31") {
		t.Errorf("the rehearsal isn't what it was: %s", got)
	}
	put(409) // the dates have changed since
	if err := json.Unmarshal(d.mpr(t, "policy", "show", "--json"), &seen); err != nil {
		t.Fatal(err)
	}
	seen.Campaign["rehearsals"] = []any{}
	wantText(t, put(422), "rehearsals", "apps/{app}/rehearsal")
	seen.Revision += 100
	delete(seen.Campaign, "rehearsals")
	put(409)
	if out := string(d.mpr(t, "policy", "show")); !strings.Contains(out, own) {
		t.Errorf("the rehearsal is gone: %s", out)
	}
}

// A brownout for an app that isn't there would spare the one that is meant: it is refused, and names it,
// by the page and the API; the commands look each app up.
func TestBrownoutsAreForAppsThatAreThere(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const policy = "/console/production/policy"
	there := d.app(t, "web").ClientID
	f := v.form(t, policy, "/brownouts/new")
	refused := v.send(t, f, "name", "may-1", "from", "2019-05-06T14:00", "to", "2019-05-06T15:00", "share", "5", "apps", there+"\r\nNOSUCHAPP\r\n../../apps\r\n", "note", "why not").want(t, 422)
	wantText(t, refused, `there is no app with the client id "NOSUCHAPP" in production`, `"../../apps"`, there, "why not")
	v.send(t, f, "apps", there).want(t, 303)
	var seen map[string]any
	if err := json.Unmarshal(d.mpr(t, "policy", "show", "--json"), &seen); err != nil {
		t.Fatal(err)
	}
	campaign, _ := seen["campaign"].(map[string]any)
	for app, status := range map[string]int{"NOSUCHAPP": 422, "dev-" + there: 422, d.app(t, "developer_managed").ClientID: 200} { // that of a sandbox is of another environment
		campaign["brownouts"] = []any{map[string]any{"name": "b", "from": "2019-05-06T14:00:00Z", "to": "2019-05-06T15:00:00Z", "share": 1, "apps": []string{app}}}
		body := map[string]any{"campaign": campaign, "revision": seen["revision"], "by": "the test"}
		got := call{Client: v.client, Method: "PUT", URL: d.Admin.URL + "/admin/v1/environments/production/policy", Header: map[string]string{"X-Csrf-Token": f.fields.Get("csrf")}, JSON: body}.send(t).want(t, status)
		if status == 422 && !strings.Contains(string(got.Body), `"brownouts[0].apps":["there is no app`) {
			t.Errorf("%s", got.Body)
		}
	}
}
