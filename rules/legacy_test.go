package rules_test

import (
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

func TestLegacyDoorServesExistingCustomers(t *testing.T) {
	decide(t, rules.Seed(), rules.DoorLegacy, []decisionCase{
		{
			name: "an existing customer's call without the header works", seed: untilSunset,
			call: rules.Call{Hinted: existing}, want: filledIn(existing),
		},
		{
			name: "an existing customer's call with the header is compliant in that", seed: headerNamesCompany,
			call: rules.Call{Header: header(existing)}, want: forwarded(existing),
		},
		{
			name: "a write without the header works", seed: untilSunset,
			call: rules.Call{Method: "PATCH", Hinted: existing}, want: filledIn(existing),
		},
		{
			name: "the header decides, not the company found elsewhere", seed: headerNamesCompany,
			call: rules.Call{Header: header(existing), Hinted: lastBefore}, want: forwarded(existing),
		},
		{
			name: "the company found elsewhere doesn't mend a malformed header", seed: headerNamesCompany,
			call: rules.Call{Header: []string{"4711 "}, Hinted: existing}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "the company found elsewhere doesn't mend an empty header", seed: headerNamesCompany,
			call: rules.Call{Header: []string{""}, Hinted: existing}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "a call that names no company anywhere is refused", seed: theMessage,
			call: rules.Call{}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "the token's own company is not filled in", seed: everyCall,
			call: rules.Call{Token: rules.TraditionalToken, TokenCompany: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "an unknown company in the header is refused", seed: mayNotSee,
			call: rules.Call{Header: header(unknown)}, want: refused(problem.CompanyForbidden, unknown),
		},
		{
			name: "an unknown company found elsewhere is refused", seed: mayNotSee,
			call: rules.Call{Hinted: unknown}, want: refused(problem.CompanyForbidden, unknown),
		},
		{
			name: "an unknown company is refused to an app", seed: notConnected,
			call: rules.Call{Hinted: unknown, Token: rules.DeveloperManagedToken}, want: refused(problem.AppNotConnected, unknown),
		},
		{
			name: "a traditional service account's call without the header works", seed: untilSunset,
			call: rules.Call{Hinted: existing, Token: rules.TraditionalToken, TokenCompany: existing}, want: filledIn(existing),
		},
		{
			name: "a developer-managed service account's call without the header works", seed: untilSunset,
			call: rules.Call{Hinted: existing, Token: rules.DeveloperManagedToken}, want: filledIn(existing),
		},
		{
			name: "a traditional service account reaches no other company that stands elsewhere", seed: traditional,
			call: rules.Call{Hinted: existing, Token: rules.TraditionalToken, TokenCompany: lastBefore}, want: refused(problem.AppNotConnected, existing),
		},
		{
			name: "Show User Info needs no header", seed: showUserInfo,
			call: rules.Call{Path: "/rest/v1.0/me"}, want: answered(0),
		},
		{
			name: "List Companies needs no header", seed: listCompanies,
			call: rules.Call{Path: "/rest/v1.0/companies", Hinted: existing}, want: answered(0),
		},
		{
			name: "an exempt call may name an existing customer", seed: headerNamesCompany,
			call: rules.Call{Path: "/rest/v1.0/me", Header: header(existing)}, want: answered(existing),
		},
		{
			name: "an exempt call with a malformed header is refused", seed: headerNamesCompany,
			call: rules.Call{Path: "/rest/v1.0/me", Header: []string{"+1"}}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "service accounts list companies without the header, as they did before", seed: untilSunset,
			call: rules.Call{Path: "/rest/v1.0/companies", Token: rules.TraditionalToken, TokenCompany: existing}, want: answered(0),
		},
		{
			name: "developer-managed service accounts list companies without the header, as they did before", seed: untilSunset,
			call: rules.Call{Path: "/rest/v1.0/companies", Token: rules.DeveloperManagedToken}, want: answered(0),
		},
	})
}

func TestLegacyDoorServesNobodyElse(t *testing.T) {
	decide(t, rules.Seed(), rules.DoorLegacy, []decisionCase{
		{
			name: "a customer of the day before the regions is an existing one", seed: onboardNew,
			call: rules.Call{Hinted: lastBefore}, want: filledIn(lastBefore),
		},
		{
			name: "a customer of the first day of the regions is a new one", seed: onboardNew,
			call: rules.Call{Hinted: firstNew}, want: refused(problem.LegacyForbidden, firstNew),
		},
		{
			name: "the header alone doesn't help a new customer", seed: newCustomers,
			call: rules.Call{Header: header(firstNew)}, want: refused(problem.LegacyForbidden, firstNew),
		},
		{
			name: "a new customer in another region is out of reach", seed: noNewCustomers,
			call: rules.Call{Hinted: newInEU}, want: refused(problem.LegacyForbidden, newInEU),
		},
		{
			name: "the header alone doesn't help a new customer in another region", seed: otherRegions,
			call: rules.Call{Header: []string{"598134325779301"}}, want: refused(problem.LegacyForbidden, newInEU),
		},
		{
			name: "an existing customer that moved is out of reach", seed: migrated,
			call: rules.Call{Header: header(moved)}, want: refused(problem.LegacyForbidden, moved),
		},
		{
			name: "an existing customer that moved is out of reach without the header as well", seed: migrated,
			call: rules.Call{Hinted: moved}, want: refused(problem.LegacyForbidden, moved),
		},
		{
			name: "an exempt call for a new customer is refused", seed: noNewCustomers,
			call: rules.Call{Path: "/rest/v1.0/me", Header: header(firstNew)}, want: refused(problem.LegacyForbidden, firstNew),
		},
		{
			name: "an exempt call for a company in another region is refused", seed: otherRegions,
			call: rules.Call{Path: "/rest/v1.0/companies", Header: header(newInEU)}, want: refused(problem.LegacyForbidden, newInEU),
		},
		{
			name: "a service account of a new customer is refused", seed: noNewCustomers,
			call: rules.Call{Header: header(newInEU), Token: rules.TraditionalToken, TokenCompany: newInEU}, want: refused(problem.LegacyForbidden, newInEU),
		},
	})
}

// Both dates are days in UTC. The last day of the legacy door counts to its last
// nanosecond, wherever the clock that tells the time stands.
func TestLegacyDoorClosesAfterItsLastDay(t *testing.T) {
	auckland, chicago := time.FixedZone("Auckland", 12*60*60), time.FixedZone("Chicago", -5*60*60)
	var cases []decisionCase
	for _, c := range []struct {
		name string
		now  time.Time
		open bool
	}{
		{"years before", date(2012, time.January, 1), true},
		{"on the first day of the regions", date(2018, time.October, 31), true},
		{"on the day before the last", date(2019, time.June, 29), true},
		{"at the start of the last day", date(2019, time.June, 30), true},
		{"at noon of the last day", time.Date(2019, time.June, 30, 12, 0, 0, 0, time.UTC), true},
		{"in the last nanosecond of the last day", date(2019, time.July, 1).Add(-1), true},
		{"in the first nanosecond of the next day", date(2019, time.July, 1), false},
		{"on the next day", time.Date(2019, time.July, 1, 12, 0, 0, 0, time.UTC), false},
		{"years after", date(2026, time.January, 1), false},
		{"on the next day in Auckland, while it is the last day in UTC", time.Date(2019, time.July, 1, 11, 59, 59, 999999999, auckland), true},
		{"on the next day in Auckland and in UTC", time.Date(2019, time.July, 1, 12, 0, 0, 0, auckland), false},
		{"on the last day in Chicago, while it is the last day in UTC", time.Date(2019, time.June, 30, 18, 59, 59, 999999999, chicago), true},
		{"on the last day in Chicago, while it is the next day in UTC", time.Date(2019, time.June, 30, 19, 0, 0, 0, chicago), false},
	} {
		works := func(want decided) decided {
			if c.open {
				return want
			}
			return refused(problem.LegacySunset, want.company) // the company is known for the ledger
		}
		cases = append(cases,
			decisionCase{name: c.name + ", with the header", seed: serveExisting, call: rules.Call{Header: header(existing), Now: c.now}, want: works(forwarded(existing))},
			decisionCase{name: c.name + ", without the header", seed: untilSunset, call: rules.Call{Hinted: existing, Now: c.now}, want: works(filledIn(existing))},
			decisionCase{name: c.name + ", on an exempt route", seed: serveExisting, call: rules.Call{Path: "/rest/v1.0/me", Now: c.now}, want: works(answered(0))},
			decisionCase{name: c.name + ", with a malformed header", seed: serveExisting, call: rules.Call{Header: []string{"x"}, Now: c.now}, want: works(refused(problem.InvalidCompanyHeader, 0))},
			decisionCase{name: c.name + ", for an unknown company", seed: serveExisting, call: rules.Call{Header: header(unknown), Now: c.now}, want: works(refused(problem.CompanyForbidden, unknown))},
			decisionCase{name: c.name + ", for a company in another region", seed: otherRegions, call: rules.Call{Header: header(newInEU), Now: c.now}, want: works(refused(problem.LegacyForbidden, newInEU))},
		)
	}
	decide(t, rules.Seed(), rules.DoorLegacy, cases)
}

// An operator sets both dates: they are taken as they are, leap days and the ends of
// years included.
func TestLegacyDoorKeepsConfiguredDates(t *testing.T) {
	for _, last := range []time.Time{date(2028, time.February, 28), date(2028, time.February, 29), date(2031, time.December, 31)} {
		policy := rules.Seed()
		policy.LegacySunset = last
		next := last.AddDate(0, 0, 1)
		decide(t, policy, rules.DoorLegacy, []decisionCase{
			{
				name: "the door is open in the last nanosecond before " + next.Format(time.DateOnly), seed: serveExisting,
				call: rules.Call{Header: header(existing), Now: next.Add(-1)}, want: forwarded(existing),
			},
			{
				name: "the door is closed from " + next.Format(time.DateOnly), seed: serveExisting,
				call: rules.Call{Header: header(existing), Now: next}, want: refused(problem.LegacySunset, existing),
			},
		})
	}
	policy := rules.Seed()
	policy.RegionsLive = date(2012, time.May, 3)
	decide(t, policy, rules.DoorLegacy, []decisionCase{
		{
			name: "who came the day before the configured day is an existing customer", seed: onboardNew,
			call: rules.Call{Header: header(existing)}, want: forwarded(existing),
		},
		{
			name: "who came later is a new customer", seed: onboardNew,
			call: rules.Call{Header: header(lastBefore)}, want: refused(problem.LegacyForbidden, lastBefore),
		},
	})
	policy.RegionsLive = date(2012, time.May, 2)
	decide(t, policy, rules.DoorLegacy, []decisionCase{{
		name: "who came on the configured day is a new customer", seed: onboardNew,
		call: rules.Call{Header: header(existing)}, want: refused(problem.LegacyForbidden, existing),
	}})
}

// The dates are the legacy door's. A new customer's calls with the header go through the
// api door on any day.
func TestLegacyDoorAloneDependsOnDates(t *testing.T) {
	for _, now := range []time.Time{date(2012, time.January, 1), date(2018, time.October, 30), date(2018, time.October, 31), date(2019, time.June, 30), date(2019, time.July, 1), {}} {
		policy := rules.Seed()
		for id, placement := range placements {
			d := policy.Decide(rules.Call{Door: rules.DoorAPI, Method: "GET", Path: "/rest/v1.0/projects", Header: header(id), Token: rules.UserToken, Now: now}, placements)
			if d.Action != rules.Forward || d.Placement != placement {
				t.Errorf("company %d at %s: %+v\nseed: %s", id, now, d, useAPIHost)
			}
		}
	}
}

func TestLoginDoorServesNoAPICalls(t *testing.T) {
	nothing := refused(problem.NotFound, 0)
	cases := []decisionCase{
		{name: "a call with the header", seed: useAPIHost, call: rules.Call{Header: header(existing)}, want: nothing},
		{name: "a call without the header", seed: useAPIHost, call: rules.Call{}, want: nothing},
		{name: "a call with a malformed header", seed: useAPIHost, call: rules.Call{Header: []string{"x"}}, want: nothing},
		{name: "a call whose company stands elsewhere", seed: useAPIHost, call: rules.Call{Hinted: existing}, want: nothing},
		{name: "Show User Info", seed: useAPIHost, call: rules.Call{Path: "/rest/v1.0/me"}, want: nothing},
		{name: "List Companies for a company", seed: useAPIHost, call: rules.Call{Path: "/rest/v1.0/companies", Header: header(existing)}, want: nothing},
		{name: "a service account's call", seed: useAPIHost, call: rules.Call{Header: header(existing), Token: rules.TraditionalToken, TokenCompany: existing}, want: nothing},
	}
	decide(t, rules.Seed(), rules.DoorLogin, cases)
	t.Run("a door that nobody knows", func(t *testing.T) {
		for _, door := range []rules.Door{0, rules.DoorLegacy + 1, 255} {
			decide(t, rules.Seed(), door, cases)
		}
	})
}

// The sandboxes have hosts of their own and the same rules.
func TestSandboxesWantTheHeader(t *testing.T) {
	sandbox := rules.Seed()
	sandbox.LoginHost, sandbox.APIHost = "login-sandbox.procore.com", "sandbox.procore.com"
	decide(t, sandbox, rules.DoorAPI, []decisionCase{
		{
			name: "a call to a sandbox without the header is refused", seed: sandboxHeader,
			call: rules.Call{Hinted: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a call to a sandbox with the header is forwarded", seed: sandboxHeader,
			call: rules.Call{Header: header(existing)}, want: forwarded(existing),
		},
	})
}

// Filled marks a call that works through the legacy door only, so that the calls that
// must change can be counted: never a refusal, an exempt call or one with the header.
func TestFilledMarksCallsThatMustChange(t *testing.T) {
	policy := rules.Seed()
	for _, door := range []rules.Door{rules.DoorLogin, rules.DoorAPI, rules.DoorLegacy} {
		for _, path := range []string{"/rest/v1.0/projects", "/rest/v1.0/me"} {
			for _, values := range [][]string{nil, header(existing), {"x"}} {
				for _, hint := range []company.ID{0, existing, newInEU, unknown} {
					d := policy.Decide(rules.Call{Door: door, Method: "GET", Path: path, Header: values, Hinted: hint, Token: rules.UserToken, Now: during}, placements)
					want := door == rules.DoorLegacy && path == "/rest/v1.0/projects" && values == nil && hint == existing
					if d.Filled != want {
						t.Errorf("%s door, %s, header %q, company elsewhere %d: Filled is %v\nfacts: %s", door, path, values, hint, d.Filled, knowingApp)
					}
				}
			}
		}
	}
}
