package rules_test

import (
	"reflect"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

func TestAPIDoorWantsTheHeader(t *testing.T) {
	decide(t, rules.Seed(), rules.DoorAPI, []decisionCase{
		{
			name: "a call without the header is refused", seed: headerOnEachCall,
			call: rules.Call{}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a call of the older paths without the header is refused", seed: headerOnEachCall,
			call: rules.Call{Path: "/vapid/projects"}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a write without the header is refused", seed: headerOnEachCall,
			call: rules.Call{Method: "POST"}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a preflight request without the header is refused", seed: headerOnEachCall,
			call: rules.Call{Method: "OPTIONS"}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a call without path and method is refused", seed: headerOnEachCall,
			call: rules.Call{Method: " ", Path: " "}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "the company in the path is no substitute for the header", seed: companyIDIsNoHelp,
			call: rules.Call{Path: "/rest/v1.3/companies/4711/users"}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "the company found elsewhere is no substitute for the header", seed: companyIDIsNoHelp,
			call: rules.Call{Hinted: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "the token's own company is no substitute for the header", seed: everyCall,
			call: rules.Call{Token: rules.TraditionalToken, TokenCompany: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "an empty header is refused, though the company stands elsewhere", seed: companyIDIsNoHelp,
			call: rules.Call{Header: []string{""}, Hinted: existing}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "a header that is no id is refused, though the company stands elsewhere", seed: headerNamesCompany,
			call: rules.Call{Header: []string{"xxxxxxxxx"}, Hinted: existing}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "the header sent twice is refused", seed: headerNamesCompany,
			call: rules.Call{Header: []string{"4711", "4711"}}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "the header is missed long after the dates as well", seed: headerOnEachCall,
			call: rules.Call{Now: date(2026, time.January, 1)}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "the header is missed before the dates as well", seed: headerOnEachCall,
			call: rules.Call{Now: date(2018, time.January, 1)}, want: refused(problem.MissingCompanyHeader, 0),
		},
	})
}

func TestAPIDoorForwardsToTheCompanysRegion(t *testing.T) {
	decide(t, rules.Seed(), rules.DoorAPI, []decisionCase{
		{
			name: "a call for a company of the default region goes there", seed: headerNamesCompany,
			call: rules.Call{Header: header(existing)}, want: forwarded(existing),
		},
		{
			name: "a call for a company in Europe goes there", seed: oneOfTheRegions,
			call: rules.Call{Header: []string{"598134325779301"}}, want: forwarded(newInEU),
		},
		{
			name: "a call for a company that moved goes where it lives now", seed: oneOfTheRegions,
			call: rules.Call{Header: header(moved)}, want: forwarded(moved),
		},
		{
			name: "an id of 63 bits is read exactly", seed: largeIDs,
			call: rules.Call{Header: []string{"9223372036854775807"}}, want: forwarded(largest),
		},
		{
			name: "a new customer of the default region is served", seed: onboardNew,
			call: rules.Call{Header: header(firstNew)}, want: forwarded(firstNew),
		},
		{
			name: "a call goes on after the legacy door has closed", seed: useAPIHost,
			call: rules.Call{Header: header(existing), Now: date(2026, time.January, 1)}, want: forwarded(existing),
		},
		{
			name: "the header decides, not the company found elsewhere", seed: headerNamesCompany,
			call: rules.Call{Header: header(existing), Hinted: newInEU}, want: forwarded(existing),
		},
		{
			name: "any method is forwarded", seed: headerOnEachCall,
			call: rules.Call{Method: "DELETE", Path: "/vapid/projects/1", Header: header(newInEU)}, want: forwarded(newInEU),
		},
		{
			name: "a traditional service account reaches its own company", seed: traditional,
			call: rules.Call{Header: header(newInEU), Token: rules.TraditionalToken, TokenCompany: newInEU}, want: forwarded(newInEU),
		},
		{
			name: "a traditional service account reaches no other company", seed: traditional,
			call: rules.Call{Header: header(existing), Token: rules.TraditionalToken, TokenCompany: newInEU}, want: refused(problem.AppNotConnected, existing),
		},
		{
			name: "a traditional service account whose company is unknown reaches nothing", seed: notConnected,
			call: rules.Call{Header: header(unknown), Token: rules.TraditionalToken, TokenCompany: unknown}, want: refused(problem.AppNotConnected, unknown),
		},
		{
			name: "a developer-managed service account may reach any company, as far as the rules know", seed: developerManaged,
			call: rules.Call{Header: header(moved), Token: rules.DeveloperManagedToken}, want: forwarded(moved),
		},
		{
			name: "an unknown company is refused to a user", seed: mayNotSee,
			call: rules.Call{Header: header(unknown)}, want: refused(problem.CompanyForbidden, unknown),
		},
		{
			name: "an unknown company is refused to a developer-managed service account", seed: notConnected,
			call: rules.Call{Header: header(unknown), Token: rules.DeveloperManagedToken}, want: refused(problem.AppNotConnected, unknown),
		},
	})
}

func TestAPIDoorExemptsTwoRoutes(t *testing.T) {
	const me, companies = "/rest/v1.0/me", "/rest/v1.0/companies"
	decide(t, rules.Seed(), rules.DoorAPI, []decisionCase{
		{
			name: "Show User Info needs no header", seed: showUserInfo,
			call: rules.Call{Path: me}, want: answered(0),
		},
		{
			name: "List Companies needs no header", seed: listCompanies,
			call: rules.Call{Path: companies}, want: answered(0),
		},
		{
			name: "an exempt call may name its company", seed: headerNamesCompany,
			call: rules.Call{Path: me, Header: header(newInEU)}, want: answered(newInEU),
		},
		{
			name: "an exempt call is for no company that stands elsewhere", seed: companyIDIsNoHelp,
			call: rules.Call{Path: companies, Hinted: newInEU}, want: answered(0),
		},
		{
			name: "an exempt call with a header that is no id is refused", seed: headerNamesCompany,
			call: rules.Call{Path: me, Header: []string{"0x12"}}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "an exempt call with an empty header is refused", seed: headerNamesCompany,
			call: rules.Call{Path: companies, Header: []string{""}}, want: refused(problem.InvalidCompanyHeader, 0),
		},
		{
			name: "an exempt call for an unknown company is refused", seed: mayNotSee,
			call: rules.Call{Path: companies, Header: header(unknown)}, want: refused(problem.CompanyForbidden, unknown),
		},
		{
			name: "a traditional service account needs the header for Show User Info", seed: exception,
			call: rules.Call{Path: me, Token: rules.TraditionalToken, TokenCompany: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a traditional service account needs the header for List Companies", seed: everyCall,
			call: rules.Call{Path: companies, Token: rules.TraditionalToken, TokenCompany: existing}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a developer-managed service account needs the header for Show User Info", seed: everyCall,
			call: rules.Call{Path: me, Token: rules.DeveloperManagedToken}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a developer-managed service account needs the header for List Companies", seed: exception,
			call: rules.Call{Path: companies, Token: rules.DeveloperManagedToken}, want: refused(problem.MissingCompanyHeader, 0),
		},
		{
			name: "a traditional service account with the header is answered", seed: everyCall,
			call: rules.Call{Path: me, Token: rules.TraditionalToken, TokenCompany: existing, Header: header(existing)}, want: answered(existing),
		},
		{
			name: "a developer-managed service account with the header is answered", seed: everyCall,
			call: rules.Call{Path: companies, Token: rules.DeveloperManagedToken, Header: header(newInEU)}, want: answered(newInEU),
		},
		{
			name: "a traditional service account gets no answer for another company", seed: traditional,
			call: rules.Call{Path: me, Token: rules.TraditionalToken, TokenCompany: existing, Header: header(newInEU)}, want: refused(problem.AppNotConnected, newInEU),
		},
	})
}

// An operator whose clients are older service accounts may lift the exception. Nothing
// but the exempt routes changes by it.
func TestServiceAccountsMayBeExemptByConfiguration(t *testing.T) {
	lenient := rules.Seed()
	lenient.ServiceAccountsNeedHeader = false
	var cases []decisionCase
	for name, kind := range kinds {
		var own company.ID
		if kind == rules.TraditionalToken {
			own = existing
		}
		cases = append(cases,
			decisionCase{
				name: "Show User Info needs no header with " + name, seed: showUserInfo,
				call: rules.Call{Path: "/rest/v1.0/me", Token: kind, TokenCompany: own}, want: answered(0),
			},
			decisionCase{
				name: "List Companies needs no header with " + name, seed: listCompanies,
				call: rules.Call{Path: "/rest/v1.0/companies", Token: kind, TokenCompany: own}, want: answered(0),
			},
			decisionCase{
				name: "other calls need the header with " + name, seed: headerOnEachCall,
				call: rules.Call{Token: kind, TokenCompany: own}, want: refused(problem.MissingCompanyHeader, 0),
			},
		)
	}
	decide(t, lenient, rules.DoorAPI, cases)
}

// A route is exempt by its method and its literal path. Whatever another server might
// read as the same path isn't.
func TestNoSpellingOfAnotherRouteIsExempt(t *testing.T) {
	almost := map[string][]string{
		"a doubled slash":               {"//rest/v1.0/me", "/rest//v1.0/me", "/rest/v1.0//companies"},
		"a trailing slash":              {"/rest/v1.0/me/", "/rest/v1.0/companies/"},
		"a dot segment":                 {"/rest/v1.0/./me", "/rest/v1.0/projects/../me", "/rest/v1.0/me/..", "/rest/v1.0/me/../projects", "/../rest/v1.0/me", "/rest/v1.0/me/."},
		"an encoded dot segment":        {"/rest/v1.0/%2e%2e/v1.0/me", "/rest/v1.0/me/%2e%2e/projects", "/rest/v1.0/%2E/companies", "/rest/v1%2e0/me"},
		"an encoded slash":              {"/rest/v1.0%2fme", "/rest%2Fv1.0/companies", "/rest/v1.0/me%2f..%2fprojects"},
		"an encoded letter":             {"/rest/v1.0/%6de", "/rest/v1.0/companie%73"},
		"twofold encoding":              {"/rest/v1.0/%256de", "/rest/v1.0/me%252f.."},
		"another case":                  {"/rest/v1.0/Me", "/REST/v1.0/me", "/rest/V1.0/companies", "/rest/v1.0/COMPANIES"},
		"a longer path":                 {"/rest/v1.0/me/x", "/rest/v1.0/mean", "/rest/v1.0/companies/4711", "/rest/v1.0/companies/4711/users"},
		"a shorter path":                {"/rest/v1.0/m", "/rest/v1.0", "/rest/v1.0/", "/", "", "/me", "rest/v1.0/me"},
		"another version":               {"/rest/v1.1/me", "/rest/v1/me", "/rest/v2.0/companies", "/vapid/me", "/vapid/companies"},
		"a query, which is not a path":  {"/rest/v1.0/me?", "/rest/v1.0/companies?page=1"},
		"a fragment":                    {"/rest/v1.0/me#", "/rest/v1.0/companies#x"},
		"a path parameter":              {"/rest/v1.0/me;", "/rest/v1.0/companies;x=1", "/rest/v1.0;/me"},
		"a space":                       {"/rest/v1.0/me ", " /rest/v1.0/me", "/rest/v1.0/companies%20", "/rest/v1.0/me+"},
		"an invisible character":        {"/rest/v1.0/me\x00", "/rest/v1.0/me%00", "/rest/v1.0/me\n", "/rest/v1.0/me\u200b"},
		"a backslash":                   {`/rest/v1.0\me`, `\rest\v1.0\me`, "/rest/v1.0/me/..\\projects"},
		"a letter that looks alike":     {"/rest/v1.0/m\u0435", "/rest/v1.0/\uff4de"},
		"an extension":                  {"/rest/v1.0/me.json", "/rest/v1.0/companies.json"},
		"an absolute form of the route": {"https://api.procore.com/rest/v1.0/me", "//api.procore.com/rest/v1.0/companies"},
	}
	policy := rules.Seed()
	for name, paths := range almost {
		t.Run(name, func(t *testing.T) {
			for _, path := range paths {
				notExempt(t, policy, "GET", path)
			}
		})
	}
	for _, method := range []string{"HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "Get", "GET ", " GET", "GE", "", "*"} {
		t.Run("the method "+method, func(t *testing.T) {
			for _, route := range policy.Exempt {
				notExempt(t, policy, method, route.Path)
			}
		})
	}
}

// notExempt wants a call to miss the header at both doors, and to be forwarded with it.
func notExempt(t *testing.T, policy rules.Policy, method, path string) {
	t.Helper()
	for _, door := range []rules.Door{rules.DoorAPI, rules.DoorLegacy} {
		call := rules.Call{Door: door, Method: method, Path: path, Token: rules.UserToken, Now: during}
		d := policy.Decide(call, placements)
		if d.Action != rules.Refuse || d.Problem == nil || d.Problem.Code != problem.MissingCompanyHeader {
			t.Errorf("%q %q at the %s door without the header: %+v\nseed: %s", method, path, door, d, exemptRoutes)
		}
		call.Header = header(existing)
		if d := policy.Decide(call, placements); d.Action != rules.Forward {
			t.Errorf("%q %q at the %s door with the header: %+v\nseed: %s", method, path, door, d, exemptRoutes)
		}
	}
}

// Nobody can find out by a refusal which companies exist: the answer for a company that
// doesn't exist and for one that the caller has no part in is the same to the letter.
// The region refuses strangers by the same function.
func TestRefusalsDontTellWhetherACompanyExists(t *testing.T) {
	policy := rules.Seed()
	for _, door := range []rules.Door{rules.DoorAPI, rules.DoorLegacy} {
		for name, kind := range kinds {
			t.Run(name+" at the "+door.String()+" door", func(t *testing.T) {
				refusal := func(own, asked company.ID, method, path string) *problem.Problem {
					t.Helper()
					d := policy.Decide(rules.Call{Door: door, Method: method, Path: path, Header: header(asked), Token: kind, TokenCompany: own, Now: during}, placements)
					if d.Action != rules.Refuse || d.Problem == nil {
						t.Fatalf("%s for company %d: %+v", path, asked, d)
					}
					return d.Problem
				}
				stranger := policy.NoAccess(kind) // what a region answers
				if stranger.Code.Status() != 403 {
					t.Errorf("status %d; want 403\nfacts: %s", stranger.Code.Status(), notConnected)
				}
				var own company.ID
				asked := []company.ID{unknown, 1, 1<<63 - 2}
				if kind == rules.TraditionalToken {
					own = lastBefore
					asked = append(asked, existing, firstNew, moved, newInEU)
				}
				for _, id := range asked {
					for _, path := range []string{"/rest/v1.0/projects", "/rest/v1.0/me", "/rest/v1.0/companies"} {
						if got := refusal(own, id, "GET", path); !reflect.DeepEqual(got, stranger) {
							t.Errorf("company %d, %s: %v\nwant %v", id, path, got, stranger)
						}
					}
				}
			})
		}
	}
}
