package acceptance

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// kept are the values with which a page fills its fields: what a browser would send of them.
func kept(t *testing.T, page []byte) url.Values {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	has := func(n *html.Node, name string) bool {
		for _, a := range n.Attr {
			if a.Key == name {
				return true
			}
		}
		return false
	}
	values := url.Values{}
	for n := range doc.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "input" && (attribute(n, "type") != "checkbox" && attribute(n, "type") != "radio" || has(n, "checked")):
			values.Add(attribute(n, "name"), attribute(n, "value"))
		case n.Data == "textarea" && n.FirstChild != nil:
			values.Add(attribute(n, "name"), n.FirstChild.Data)
		case n.Data == "option" && has(n, "selected") && n.FirstChild != nil:
			values.Add(attribute(n.Parent, "name"), n.FirstChild.Data)
		}
	}
	return values
}

// What was typed into a form stays there beside what is wrong with it, in the console as in the portal.
func TestFormsKeepWhatWasTyped(t *testing.T) {
	d := startDev(t, t.TempDir(), "--as-of", asOf)
	v := d.visitor(t, d.Users[0])
	const in = "/console/production"
	own := v.send(t, v.form(t, "/developers/new", "/new"), "name", "Mine", "kind", "web", "redirect_uris", "https://a.example/cb").want(t, 200).text(t, "client-id")
	company := fmt.Sprintf("%s/companies/%d", in, d.in(t, "US01").ID)
	csrf := v.form(t, in+"/keys", "/keys").fields.Get("csrf")
	type sent struct {
		path   string
		values url.Values
	}
	cases := []sent{
		{in + "/companies/new", url.Values{"name": {" "}, "region": {"EU01"}, "onboarded": {"2016-02-31"}}},
		{company + "/move", url.Values{"to": {"EU01"}, "rate": {"12 rows"}, "not_before": {"2019-05-06T14:00"}, "not_after": {"2019-05-06T15:00"}}},
		{company + "/move", url.Values{"to": {"EU01"}, "rate": {"120"}, "not_before": {"2019-05-06T14:00"}, "not_after": {"2019-05-06T13:00"}}},
		{company + "/move", url.Values{"to": {"NO01"}, "rate": {"120"}, "not_before": {"2019-05-06T14:00"}, "not_after": {"2019-05-06T15:00"}}},
		{company + "/users", url.Values{"login": {"nobody@example.com"}}},
		{in + "/policy/dates", url.Values{"revision": {"0"}, "regions_live": {"2018-11-30"}, "legacy_sunset": {"2018-11-01"}, "allow_new": {"1"}, "note": {"because"}}},
		{in + "/policy/brownouts/new", url.Values{"name": {"b"}, "from": {"2019-05-06T14:00"}, "to": {"2019-05-06T13:00"}, "share": {"25"}, "apps": {"nobody"}, "authentication": {"1"}, "note": {"because"}}},
		{in + "/directory/regions", url.Values{"code": {"AP01"}, "number": {"999"}, "upstreams": {"http://a.example"}, "health_path": {"/up"}, "internal": {"http://b.example"}}},
		{in + "/sandbox/companies", url.Values{"company": {"one"}, "verb": {"enable"}}},
		{in + "/operators", url.Values{"login": {"nobody@example.com"}, "role": {"operator"}}},
	}
	for _, app := range []string{in + "/apps", "/developers/apps"} {
		cases = append(
			cases,
			sent{strings.TrimSuffix(app, "/apps") + map[string]string{in + "/apps": "/apps/new", "/developers/apps": "/new"}[app], url.Values{"name": {"Typed"}, "kind": {"installed"}, "redirect_uris": {"ftp://a.example"}}},
			sent{app + "/" + own + "/rehearsal", url.Values{"from": {"2019-05-06T14:00"}, "to": {"2019-05-06T13:00"}}},
			sent{app + "/" + own + "/secret", url.Values{"overlap": {"721"}}},
			sent{app + "/" + own + "/redirects", url.Values{"redirect_uris": {"ftp://a.example"}}},
			sent{app + "/" + own + "/owners", url.Values{"login": {"nobody@example.com"}}},
			sent{app + "/" + own + "/events", url.Values{"verb": {"set"}, "url": {"ftp://a.example/hook"}}},
		)
	}
	cases = append(cases, sent{in + "/apps/" + own + "/limits", url.Values{"hour": {"7"}, "spike": {"-7"}}})
	for _, c := range cases {
		c.values.Set("csrf", csrf)
		page := call{Client: v.client, Method: "POST", URL: d.Admin.URL + c.path, Form: c.values}.send(t)
		if page.Status < 400 || page.Status >= 500 {
			t.Errorf("%s: %d", c.path, page.Status)
		}
		wantText(t, page, "request id")
		filled := kept(t, page.Body)
		for name, values := range c.values {
			if name == "verb" || strings.TrimSpace(values[0]) == "" {
				continue
			}
			if !slices.Contains(filled[name], values[0]) {
				t.Errorf("%s: %s was %q, and now is %q", c.path, name, values[0], filled[name])
			}
		}
	}
	filtered := v.get(t, in+"/audit?by=somebody&since=yesterday").want(t, 400)
	if got := kept(t, filtered.Body); got.Get("by") != "somebody" {
		t.Errorf("the filter of the audit log has forgotten %v", got)
	}
}

// Where a region is down it isn't the fault of whoever has typed: the form stays, and can be sent again.
func TestFormsOutliveAFailure(t *testing.T) {
	s := newTopology(t)
	s.start(t, "control", "login", "US01")
	var made struct{ Password string }
	s.runEventually(t, &made, "user", "create", "--login", "root@example.com", "--name", "Root Admin")
	root := user{Login: "root@example.com", Password: made.Password}
	s.run(t, &object{}, "operator", "grant", root.Login, "--role", "admin")
	v := s.visitor(t, root)
	const at = "/console/production/companies/new"
	f := v.form(t, at, "/new")
	s.kill(t, "US01")
	page := v.send(t, f, "name", "Patient Works", "region", "US01", "onboarded", "2016-01-01").want(t, 503)
	wantText(t, page, "region_unavailable", "request id", "Make the company")
	f = v.sentForm(t, page, "", "key")
	if f.fields.Get("name") != "Patient Works" || f.fields.Get("onboarded") != "2016-01-01" {
		t.Errorf("what was typed is gone: %v", f.fields)
	}
	f.action = at
	s.start(t, "US01")
	eventually(t, readyWithin, func() (bool, string) {
		got := v.send(t, f, "region", "US01")
		return got.Status == 303, got.String()
	})
	var list struct{ Companies []struct{ Name string } }
	s.run(t, &list, "company", "list")
	if len(list.Companies) != 1 {
		t.Errorf("%+v", list)
	}
}
