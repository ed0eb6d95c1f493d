package rules_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"mpr/problem"
	"mpr/rules"
)

// app is the client id of an app in these tests.
const app = "an-app"

// noon is when the brownouts of these tests begin.
var noon = time.Date(2019, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestBrownouts(t *testing.T) {
	hour := rules.Brownout{Name: "first", From: noon, To: noon.Add(time.Hour), Share: 1}
	only := func(change func(*rules.Brownout)) []rules.Brownout {
		b := hour
		change(&b)
		return []rules.Brownout{b}
	}
	refusedIn := refused(problem.LegacyBrownout, existing)
	for _, c := range []struct {
		name      string
		brownouts []rules.Brownout
		call      rules.Call
		want      decided
	}{
		{"before the window", []rules.Brownout{hour}, rules.Call{Now: noon.Add(-1)}, forwarded(existing)},
		{"at its start", []rules.Brownout{hour}, rules.Call{Now: noon}, refusedIn},
		{"in its last nanosecond", []rules.Brownout{hour}, rules.Call{Now: noon.Add(time.Hour - 1)}, refusedIn},
		{"at its end", []rules.Brownout{hour}, rules.Call{Now: noon.Add(time.Hour)}, forwarded(existing)},
		{"paused", only(func(b *rules.Brownout) { b.Paused = true }), rules.Call{Now: noon}, forwarded(existing)},
		{"for this app", only(func(b *rules.Brownout) { b.Apps = []string{"x", app} }), rules.Call{Now: noon, ClientID: app}, refusedIn},
		{"for another app", only(func(b *rules.Brownout) { b.Apps = []string{"x"} }), rules.Call{Now: noon, ClientID: app}, forwarded(existing)},
		{"for a share, drawn", only(func(b *rules.Brownout) { b.Share = 0.25 }), rules.Call{Now: noon, Lot: 0.2499}, refusedIn},
		{"for a share, not drawn", only(func(b *rules.Brownout) { b.Share = 0.25 }), rules.Call{Now: noon, Lot: 0.25}, forwarded(existing)},
		{"the second of two", append(only(func(b *rules.Brownout) { b.Paused = true }), hour), rules.Call{Now: noon}, refusedIn},
		{"an exempt call", []rules.Brownout{hour}, rules.Call{Now: noon, Path: "/rest/v1.0/me"}, refusedIn},
	} {
		policy := rules.Seed()
		policy.Brownouts = c.brownouts
		c.call.Header = header(existing)
		decide(t, policy, rules.DoorLegacy, []decisionCase{{name: c.name, seed: untilSunset, call: c.call, want: c.want}})
		// A brownout is the legacy door's alone.
		want := forwarded(existing)
		if c.call.Path != "" {
			want = answered(existing)
		}
		decide(t, policy, rules.DoorAPI, []decisionCase{{name: c.name + ", at the api door", seed: useAPIHost, call: c.call, want: want}})
	}
}

func TestBrownoutsSayWhatTheyAre(t *testing.T) {
	policy := rules.Seed()
	policy.Brownouts = []rules.Brownout{{Name: "first", From: noon, To: noon.Add(time.Hour), Share: 1}}
	d := policy.Decide(rules.Call{Door: rules.DoorLegacy, Header: header(existing), Token: rules.UserToken, Now: noon.Add(15 * time.Minute)}, placements)
	if d.Problem == nil || d.Problem.Code.Status() != 503 || d.Problem.RetryAfter != 45*time.Minute {
		t.Fatalf("%+v", d)
	}
	for _, words := range []string{"planned brownout until March 1, 2019 13:00 UTC", "June 30, 2019", "https://login.procore.com", "https://api.procore.com", "Procore-Company-Id header"} {
		if !strings.Contains(d.Problem.Message, words) {
			t.Errorf("no %q in %q", words, d.Problem.Message)
		}
	}
}

// /oauth/* is left out of brownouts unless named.
func TestAuthenticationAtTheLegacyDoor(t *testing.T) {
	b := rules.Brownout{Name: "first", From: noon, To: noon.Add(time.Hour), Share: 1}
	named := b
	named.Authentication = true
	rehearsal := []rules.Rehearsal{{App: app, From: noon, To: noon.Add(time.Hour)}}
	for _, c := range []struct {
		name       string
		door       rules.Door
		brownouts  []rules.Brownout
		rehearsals []rules.Rehearsal
		now        time.Time
		want       problem.Code
	}{
		{"before the sunset", rules.DoorLegacy, nil, nil, noon, ""},
		{"in a brownout", rules.DoorLegacy, []rules.Brownout{b}, nil, noon, ""},
		{"in a brownout that names it", rules.DoorLegacy, []rules.Brownout{named}, nil, noon, problem.LegacyBrownout},
		{"in a rehearsal", rules.DoorLegacy, nil, rehearsal, noon, problem.LegacySunset},
		{"on the last day", rules.DoorLegacy, nil, nil, date(2019, time.July, 1).Add(-1), ""},
		{"after the last day", rules.DoorLegacy, nil, nil, date(2019, time.July, 1), problem.LegacySunset},
		{"after the last day, at the login door", rules.DoorLogin, nil, nil, date(2019, time.July, 1), ""},
		{"after the last day, at the api door", rules.DoorAPI, []rules.Brownout{named}, rehearsal, date(2019, time.July, 1), ""},
	} {
		policy := rules.Seed()
		policy.Brownouts, policy.Rehearsals = c.brownouts, c.rehearsals
		var got problem.Code
		if p := policy.DecideAuthentication(rules.Authentication{Door: c.door, ClientID: app, Now: c.now}); p != nil {
			got = p.Code
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q\nseed: %s", c.name, got, c.want, useLoginHost)
		}
	}
}

// A rehearsal shows one app what it will find after the sunset, and nobody else.
func TestRehearsals(t *testing.T) {
	policy := rules.Seed()
	policy.Rehearsals = []rules.Rehearsal{{App: app, From: noon, To: noon.Add(time.Hour)}}
	decide(t, policy, rules.DoorLegacy, []decisionCase{
		{name: "before it", seed: untilSunset, call: rules.Call{Header: header(existing), ClientID: app, Now: noon.Add(-1)}, want: forwarded(existing)},
		{name: "in it", seed: serveExisting, call: rules.Call{Header: header(existing), ClientID: app, Now: noon}, want: refused(problem.LegacySunset, existing)},
		{name: "another app in it", seed: untilSunset, call: rules.Call{Header: header(existing), ClientID: "another", Now: noon}, want: forwarded(existing)},
		{name: "a call of no app in it", seed: untilSunset, call: rules.Call{Header: header(existing), Now: noon}, want: forwarded(existing)},
		{name: "after it", seed: untilSunset, call: rules.Call{Header: header(existing), ClientID: app, Now: noon.Add(time.Hour)}, want: forwarded(existing)},
	})
	d := policy.Decide(rules.Call{Door: rules.DoorLegacy, Header: header(existing), ClientID: app, Token: rules.UserToken, Now: noon}, placements)
	if !strings.Contains(d.Problem.Message, "rehearsal for your app, until March 1, 2019 13:00 UTC") || d.Problem.Code.Status() != 410 {
		t.Errorf("%+v", d.Problem)
	}
}

func TestNewCustomersInTheDefaultRegionByAnOperatorsLeave(t *testing.T) {
	policy := rules.Seed()
	policy.AllowNewInDefault = true
	decide(t, policy, rules.DoorLegacy, []decisionCase{
		{name: "in the default region", seed: otherRegions, call: rules.Call{Hinted: firstNew}, want: filledIn(firstNew)},
		{name: "in another region", seed: otherRegions, call: rules.Call{Hinted: newInEU}, want: refused(problem.LegacyForbidden, newInEU)},
		{name: "moved to another region", seed: migrated, call: rules.Call{Hinted: moved}, want: refused(problem.LegacyForbidden, moved)},
	})
}

func TestCampaignCheck(t *testing.T) {
	good := func() rules.Campaign {
		c := rules.Seed().Campaign
		c.Brownouts = []rules.Brownout{{Name: "first", From: noon, To: noon.Add(time.Hour), Share: 0.5, Apps: []string{app}}}
		c.Rehearsals = []rules.Rehearsal{{App: app, From: noon, To: noon.Add(time.Hour)}}
		return c
	}
	for field, change := range map[string]func(*rules.Campaign){
		"":                   func(*rules.Campaign) {},
		"legacy_sunset":      func(c *rules.Campaign) { c.LegacySunset = c.RegionsLive.AddDate(0, 0, -1) },
		"brownouts":          func(c *rules.Campaign) { c.Brownouts = make([]rules.Brownout, 101) },
		"brownouts[0].name":  func(c *rules.Campaign) { c.Brownouts[0].Name = "" },
		"brownouts[1].name":  func(c *rules.Campaign) { c.Brownouts = append(c.Brownouts, c.Brownouts[0]) },
		"brownouts[0].to":    func(c *rules.Campaign) { c.Brownouts[0].To = noon },
		"brownouts[0].share": func(c *rules.Campaign) { c.Brownouts[0].Share = 0 },
		"brownouts[0].apps":  func(c *rules.Campaign) { c.Brownouts[0].Apps = []string{""} },
		"rehearsals":         func(c *rules.Campaign) { c.Rehearsals = make([]rules.Rehearsal, 1001) },
		"rehearsals[0].app":  func(c *rules.Campaign) { c.Rehearsals[0].App = "" },
		"rehearsals[0].to":   func(c *rules.Campaign) { c.Rehearsals[0].To = noon.Add(-1) },
	} {
		c := good()
		change(&c)
		wrong := c.Check()
		if field == "" && len(wrong) != 0 || field != "" && len(wrong[field]) == 0 {
			t.Errorf("%s: %v", field, wrong)
		}
	}
}

// What is over when it is planned is a mistake; what has become so since stays.
func TestPlansThatAreOver(t *testing.T) {
	over := rules.Campaign{
		Brownouts:  []rules.Brownout{{Name: "first", From: noon.Add(-time.Hour), To: noon}, {Name: "second", From: noon, To: noon.Add(1)}},
		Rehearsals: []rules.Rehearsal{{App: app, To: noon}, {App: app, To: noon.Add(1)}},
	}
	wrong := over.Untimely(&rules.Campaign{}, noon)
	if len(wrong) != 2 || wrong["brownouts[0].to"] == nil || wrong["rehearsals[0].to"] == nil {
		t.Errorf("wrong are %v", wrong)
	}
	if wrong := over.Untimely(&over, noon); len(wrong) != 0 {
		t.Errorf("what was there before is wrong: %v", wrong)
	}
}

// So is what is more than ten years ahead: a year with a digit too many, most of the time.
func TestPlansThatAreFarAhead(t *testing.T) {
	far := noon.AddDate(10, 0, 1)
	c := rules.Campaign{
		RegionsLive: far, LegacySunset: far,
		Brownouts:  []rules.Brownout{{Name: "first", From: noon, To: far}, {Name: "second", From: noon, To: noon.AddDate(10, 0, 0)}},
		Rehearsals: []rules.Rehearsal{{App: app, To: far}},
	}
	wrong := c.Untimely(&rules.Campaign{}, noon)
	if len(wrong) != 4 || wrong["regions_live"] == nil || wrong["legacy_sunset"] == nil || wrong["brownouts[0].to"] == nil || wrong["rehearsals[0].to"] == nil {
		t.Errorf("wrong are %v", wrong)
	}
	if wrong := c.Untimely(&c, noon); len(wrong) != 0 {
		t.Errorf("what was there before is wrong: %v", wrong)
	}
	past := rules.Campaign{RegionsLive: noon.AddDate(-1, 0, 0), LegacySunset: noon.AddDate(0, 0, -1)}
	if wrong := past.Untimely(&rules.Campaign{}, noon); len(wrong) != 0 {
		t.Errorf("the door can't be closed now: %v", wrong)
	}
}

func TestCampaignAsJSON(t *testing.T) {
	c := rules.Seed().Campaign
	c.Brownouts = []rules.Brownout{{Name: "first", From: noon, To: noon.Add(time.Hour), Share: 0.5, Apps: []string{app}, Authentication: true, Paused: true}}
	c.Rehearsals = []rules.Rehearsal{{App: app, From: noon, To: noon.Add(time.Hour)}}
	text, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	var back rules.Campaign
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("%s\n became %+v, %v", text, back, err)
	}
	if !strings.Contains(string(text), `"legacy_sunset":"2019-06-30"`) {
		t.Errorf("days aren't days: %s", text)
	}
	for _, bad := range []string{`{}`, `{"regions_live":"2018-10-31","legacy_sunset":"soon"}`, `{"regions_live":"2018-02-30","legacy_sunset":"2019-06-30"}`, `[]`} {
		if json.Unmarshal([]byte(bad), &back) == nil {
			t.Errorf("%s is taken for a campaign", bad)
		}
	}
	const newer = `{"regions_live":"2018-10-31","legacy_sunset":"2019-06-30","later":1}`
	if err := json.Unmarshal([]byte(newer), &back); err != nil {
		t.Errorf("a newer version's campaign: %v", err)
	}
	if _, err := rules.ParseCampaign([]byte(newer)); err == nil {
		t.Error("a misspelt field goes unnoticed")
	}
	if parsed, err := rules.ParseCampaign(text); err != nil || !reflect.DeepEqual(*parsed, c) {
		t.Errorf("%+v, %v", parsed, err)
	}
}
