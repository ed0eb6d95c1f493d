package acceptance

import (
	"net/url"
	"strings"
	"testing"
)

// What a form says of a field is about that field as it stands there, and times are plausible ones.
func TestConsoleFieldsArePlausible(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v, bob := d.visitor(t, d.Users[0]), d.visitor(t, d.Users[1])
	const policy = "/console/production/policy"
	f := v.form(t, policy, "/brownouts/new")
	for _, share := range []string{"0", "0.5", "101", "-1", "a"} {
		wantText(t, v.send(t, f, "name", "x", "from", "2019-05-06T14:00", "to", "2019-05-06T15:00", "share", share).want(t, 422), "must be a whole number of percent, from 1 to 100")
	}
	wantText(t, v.send(t, f, "share", "5", "to", "9999-05-06T15:00").want(t, 422), "is more than 10 years ahead")
	for _, day := range []string{"9999-12-31", "2029-04-30"} {
		wantText(t, v.send(t, v.form(t, policy, "/dates"), "legacy_sunset", day).want(t, 422), "is more than 10 years ahead")
	}
	v.send(t, v.form(t, policy, "/dates"), "legacy_sunset", "2029-04-01").want(t, 303)
	wantText(t, v.send(t, v.form(t, "/console/production/companies/new", "/new"), "name", "Far", "region", "US01", "onboarded", "9999-01-01").want(t, 422), "ten years ahead")

	app := bob.send(t, bob.form(t, "/developers/new", "/new"), "name", "Mine", "kind", "developer_managed").want(t, 200)
	id := app.text(t, "client-id")
	at := "/developers/apps/" + id
	wantText(t, bob.send(t, bob.form(t, at, "/rehearsal"), "from", "2001-01-01T00:00", "to", "2019-04-22T00:00").want(t, 422), "is over already; leave it out to begin at once")
	bob.send(t, bob.form(t, at, "/rehearsal"), "from", "2019-04-20T23:00", "to", "2019-04-22T00:00").want(t, 303)

	// Where nothing is said the old secret stays valid for a day; 0 hours have to be said.
	first := d.app(t, "developer_managed")
	first.ClientID, first.ClientSecret = id, app.text(t, "client-secret")
	rotated := bob.send(t, bob.form(t, at+"/settings", "/secret"), "overlap", "").want(t, 200)
	wantText(t, rotated, "The old one stays valid for 24 h")
	d.machineToken(t, first)
}

// What was done is said to whoever did it, where they did it, and to nobody who follows a link that
// somebody else has made up.
func TestConsoleSaysWhatWasDone(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v, other := d.visitor(t, d.Users[0]), d.visitor(t, d.Users[0])
	const policy, says = "/console/production/policy", "The policy is in force."
	to := v.send(t, v.form(t, policy, "/dates"), "legacy_sunset", "2019-09-30").want(t, 303).Header.Get("Location")
	wantText(t, v.get(t, to).want(t, 200), says)
	query := strings.TrimPrefix(to, policy)
	for who, page := range map[string]answer{
		"a made-up link":      v.get(t, policy+"?done=policy"),
		"another signature":   v.get(t, policy+"?done=policy.AAAAAAAAAAAAAAAAAAAAAA"),
		"another code":        v.get(t, policy+strings.Replace(query, "policy", "saved", 1)),
		"another page":        v.get(t, "/console/production/keys"+query),
		"another session":     other.get(t, to),
		"no code with a sign": v.get(t, policy+"?done=."),
	} {
		if page.want(t, 200); strings.Contains(string(page.Body), `class="note good"`) {
			t.Errorf("%s says that something was done", who)
		}
	}
}

// A form that a visitor may not send isn't shown to them, and no page leads there.
func TestViewersAreOfferedNoForms(t *testing.T) {
	d := startDev(t, t.TempDir())
	d.mpr(t, "operator", "grant", d.Users[1].Login, "--role", "viewer")
	v := d.visitor(t, d.Users[1])
	for _, path := range []string{"/console/production/companies", "/console/production/companies?q=zzz", "/console/production/apps", "/console/monthly-sandbox/companies"} {
		if page := v.get(t, path).want(t, 200); strings.Contains(string(page.Body), `/new"`) {
			t.Errorf("%s leads a viewer to a form", path)
		}
	}
	for _, path := range []string{"/console/production/companies/new", "/console/production/apps/new"} {
		refused := v.get(t, path).want(t, 403)
		wantText(t, refused, "takes the role operator")
		if strings.Contains(string(refused.Body), `name="name"`) {
			t.Errorf("%s shows the form", path)
		}
	}
	v.get(t, "/developers/new").want(t, 200)
}

// Whatever a browser is answered by the control role, it loads, runs and frames nothing of others.
func TestEveryAnswerIsLockedDown(t *testing.T) {
	d := shared(t)
	v := d.visitor(t, d.Users[0])
	for _, path := range []string{"/nope", "/", "/signin/x", "/console", "/console/", "/console/nope", "/console/production/nope", "/developers/nope", "/assets/nope.js", "/admin/v1/nope", "/admin/v1/session", "/console/production/keys?x=" + url.QueryEscape("<b>")} {
		for who, a := range map[string]answer{"a stranger": call{URL: d.Admin.URL + path, Header: map[string]string{"Accept": "text/html"}}.send(t), "an admin": v.get(t, path), "a form": (call{Client: v.client, Method: "POST", URL: d.Admin.URL + path, Form: url.Values{}}).send(t)} {
			policy := a.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "base-uri 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s at %s (%d): the policy %q", who, path, a.Status, policy)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s at %s (%d): %s is %q", who, path, a.Status, name, got)
				}
			}
			if a.Header.Get("Referrer-Policy") == "" {
				t.Errorf("%s at %s: no policy for referrers", who, path)
			}
		}
	}
}
