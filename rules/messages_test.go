package rules_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// The seed's message, to the letter: theMessage says that it "is displayed".
func TestMissingHeaderMessage(t *testing.T) {
	const want = "Missing Procore-Company-Id header!\nEach call your application makes to the Procore API must contain a request header that includes the Procore-Company-Id field.\nThis request header field specifies the id of the company into which you are making the call."
	policy := rules.Seed()
	for name, kind := range kinds {
		for _, door := range []rules.Door{rules.DoorAPI, rules.DoorLegacy} {
			d := policy.Decide(rules.Call{Door: door, Method: "GET", Path: "/rest/v1.0/projects", Token: kind, Now: during}, placements)
			if d.Problem == nil || d.Problem.Message != want {
				t.Errorf("with %s at the %s door: %v\nwant %q\nseed: %s", name, door, d.Problem, want, theMessage)
			}
			if d.Problem != nil && (d.Problem.Code != problem.MissingCompanyHeader || d.Problem.Code.Status() != 400) {
				t.Errorf("with %s at the %s door: code %s, status %d", name, door, d.Problem.Code, d.Problem.Code.Status())
			}
		}
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	const changes = "Make the required changes: 1) Send authentication requests to https://login.procore.com. 2) Send API calls to https://api.procore.com. 3) Send the Procore-Company-Id header, with the id of the company, on each call."
	policy := rules.Seed()
	get := func(door rules.Door, values []string) rules.Call {
		return rules.Call{Door: door, Method: "GET", Path: "/rest/v1.0/projects", Header: values, Token: rules.UserToken, Now: during}
	}
	late := get(rules.DoorLegacy, header(existing))
	late.Now = date(2019, 7, 1)
	app := get(rules.DoorAPI, header(unknown))
	app.Token = rules.DeveloperManagedToken
	for _, c := range []struct {
		name   string
		seed   string
		call   rules.Call
		code   problem.Code
		status int
		want   string
	}{
		{
			name: "after its last day, the legacy door names the day and the three changes", seed: serveExisting, call: late,
			code: problem.LegacySunset, status: 410,
			want: "This host stopped serving API calls after June 30, 2019. " + changes,
		},
		{
			name: "the legacy door names the default region and the three changes to a company elsewhere", seed: migrated,
			call: get(rules.DoorLegacy, header(moved)), code: problem.LegacyForbidden, status: 403,
			want: "This host can't reach the company: it lives in another region than US01. " + changes,
		},
		{
			name: "the legacy door names the three changes to a new customer", seed: newCustomers,
			call: get(rules.DoorLegacy, header(firstNew)), code: problem.LegacyForbidden, status: 403,
			want: "This host can't reach the company: it became a customer after Procore introduced regions. " + changes,
		},
		{
			name: "the login door names the host of the API", seed: useAPIHost,
			call: get(rules.DoorLogin, header(existing)), code: problem.NotFound, status: 404,
			want: "This host serves sign-in and tokens only. Send API calls to https://api.procore.com.",
		},
		{
			name: "a user hears what to check about a company out of reach", seed: headerNamesCompany,
			call: get(rules.DoorAPI, header(unknown)), code: problem.CompanyForbidden, status: 403,
			want: "You have no access to this company. Check the Procore-Company-Id header, or ask an administrator of the company to add you.",
		},
		{
			name: "an app hears the known sentence about a company out of reach", seed: notConnected,
			call: app, code: problem.AppNotConnected, status: 403,
			want: "App is not connected to this company. Ask an administrator of the company to install it, or check the Procore-Company-Id header.",
		},
		{
			name: "an empty header is named", seed: headerNamesCompany,
			call: get(rules.DoorAPI, []string{""}), code: problem.InvalidCompanyHeader, status: 400,
			want: "The Procore-Company-Id header is empty. Set it to the id of the company into which you are making the call.",
		},
		{
			name: "a malformed header is answered with the form of an id", seed: largeIDs,
			call: get(rules.DoorAPI, []string{"-1"}), code: problem.InvalidCompanyHeader, status: 400,
			want: "The Procore-Company-Id header must be one decimal number from 1 to 9223372036854775807, with no sign, spaces or other characters. Set it to the id of the company into which you are making the call.",
		},
		{
			name: "a repeated header is counted", seed: headerNamesCompany,
			call: get(rules.DoorAPI, []string{"1", "2", "3"}), code: problem.InvalidCompanyHeader, status: 400,
			want: "The Procore-Company-Id header was sent 3 times. Send it once, with the id of the company into which you are making the call.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := policy.Decide(c.call, placements)
			if d.Action != rules.Refuse || d.Problem == nil {
				t.Fatalf("%+v was not refused: %+v\nseed: %s", c.call, d, c.seed)
			}
			if d.Problem.Message != c.want {
				t.Errorf("message %q\nwant %q\nseed: %s", d.Problem.Message, c.want, c.seed)
			}
			if d.Problem.Code != c.code || d.Problem.Code.Status() != c.status {
				t.Errorf("%s, %d; want %s, %d\nseed: %s", d.Problem.Code, d.Problem.Code.Status(), c.code, c.status, c.seed)
			}
		})
	}
}

func TestThereAreThreeRequiredChanges(t *testing.T) {
	policy := rules.Seed()
	changes := policy.RequiredChanges()
	for i, c := range []struct{ seed, names string }{
		{seed: useLoginHost, names: "https://login.procore.com"},
		{seed: useAPIHost, names: "https://api.procore.com"},
		{seed: headerOnEachCall, names: "Procore-Company-Id"},
	} {
		if i >= len(changes) || !strings.Contains(changes[i], c.names) {
			t.Errorf("change %d of %q doesn't name %s\nseed: %s", i+1, changes, c.names, c.seed)
		}
	}
	if len(changes) != 3 {
		t.Errorf("%d changes: %q\nseed: %s", len(changes), changes, threeChanges)
	}
}

// Another SaaS sets its own names: they stand in every message, and the seed's in none.
func TestMessagesUseTheConfiguredNames(t *testing.T) {
	policy := rules.Policy{
		Product:       "Acme",
		CompanyHeader: "Acme-Tenant",
		LoginHost:     "id.acme.example",
		APIHost:       "api.acme.example",
		DefaultRegion: "AP07",
		Exempt:        []rules.Route{{Method: "GET", Path: "/whoami"}},
		Campaign:      rules.Campaign{RegionsLive: date(2030, 2, 1), LegacySunset: date(2031, 12, 31)},
	}
	there := directory{
		1: {Company: 1, Region: "AP08", Epoch: 1, Onboarded: date(2020, 1, 1)},
		2: {Company: 2, Region: "AP07", Epoch: 1, Onboarded: date(2030, 2, 1)},
		3: {Company: 3, Region: "AP07", Epoch: 1, Onboarded: date(2030, 1, 31)},
	}
	missing := []string{
		"Missing Acme-Tenant header!\n",
		"\nEach call your application makes to the Acme API must contain a request header that includes the Acme-Tenant field.\n",
	}
	changes := []string{"https://id.acme.example.", "https://api.acme.example.", "Send the Acme-Tenant header"}
	for _, c := range []struct {
		name string
		seed string
		call rules.Call
		want []string
	}{
		{"the missing header at the api door", headerOnEachCall, rules.Call{Door: rules.DoorAPI}, missing},
		{"the missing header at the legacy door", headerOnEachCall, rules.Call{Door: rules.DoorLegacy}, missing},
		{"a route that is exempt in the seed only", showUserInfo, rules.Call{Door: rules.DoorAPI, Path: "/rest/v1.0/me"}, missing},
		{"an empty header", headerNamesCompany, rules.Call{Door: rules.DoorAPI, Header: []string{""}}, []string{"Acme-Tenant"}},
		{"a malformed header", headerNamesCompany, rules.Call{Door: rules.DoorAPI, Header: []string{"x"}}, []string{"Acme-Tenant"}},
		{"a repeated header", headerNamesCompany, rules.Call{Door: rules.DoorAPI, Header: []string{"1", "1"}}, []string{"Acme-Tenant"}},
		{"an unknown company for a user", mayNotSee, rules.Call{Door: rules.DoorAPI, Header: header(unknown)}, []string{"Acme-Tenant"}},
		{"an unknown company for an app", notConnected, rules.Call{Door: rules.DoorAPI, Header: header(unknown), Token: rules.TraditionalToken, TokenCompany: unknown}, []string{"Acme-Tenant"}},
		{"the login door", useAPIHost, rules.Call{Door: rules.DoorLogin}, []string{"https://api.acme.example."}},
		{"another region at the legacy door", otherRegions, rules.Call{Door: rules.DoorLegacy, Header: header(1)}, append(changes, "AP07")},
		{"a new customer at the legacy door", noNewCustomers, rules.Call{Door: rules.DoorLegacy, Header: header(2)}, append(changes, "Acme introduced regions")},
		{"the legacy door after its last day", untilSunset, rules.Call{Door: rules.DoorLegacy, Header: header(3), Now: date(2032, 1, 1)}, append(changes, "December 31, 2031")},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := c.call
			if call.Path == "" {
				call.Path = "/things"
			}
			if call.Token == 0 {
				call.Token = rules.UserToken
			}
			if call.Now.IsZero() {
				call.Now = date(2031, 12, 31)
			}
			call.Method = "GET"
			d := policy.Decide(call, there)
			if d.Problem == nil {
				t.Fatalf("%+v was not refused: %+v\nseed: %s", call, d, c.seed)
			}
			for _, want := range c.want {
				if !strings.Contains(d.Problem.Message, want) {
					t.Errorf("%q doesn't say %q\nseed: %s", d.Problem.Message, want, c.seed)
				}
			}
			for _, name := range []string{"procore", "us01", "2019"} {
				if strings.Contains(strings.ToLower(d.Problem.Message), name) {
					t.Errorf("%q names %s\nfacts: %s", d.Problem.Message, name, otherEnvironment)
				}
			}
		})
	}
	for _, door := range []rules.Door{rules.DoorAPI, rules.DoorLegacy} {
		if d := policy.Decide(rules.Call{Door: door, Method: "GET", Path: "/whoami", Token: rules.UserToken, Now: during}, there); d.Action != rules.Identity {
			t.Errorf("the configured exempt route at the %s door: %+v\nseed: %s", door, d, exemptRoutes)
		}
	}
	if d := policy.Decide(rules.Call{Door: rules.DoorLegacy, Method: "GET", Path: "/things", Header: header(3), Token: rules.UserToken, Now: date(2031, 12, 31)}, there); d.Action != rules.Forward {
		t.Errorf("an existing customer at the legacy door on its last day: %+v\nseed: %s", d, serveExisting)
	}
}

// Names are put into messages as they are: none is taken for a format.
func TestNamesAreNoFormats(t *testing.T) {
	policy := rules.Seed()
	policy.Product, policy.CompanyHeader, policy.LoginHost, policy.APIHost, policy.DefaultRegion = "100%s", "X-%d", "login%v", "api%v", "%s"
	for _, door := range []rules.Door{rules.DoorLogin, rules.DoorAPI, rules.DoorLegacy} {
		for _, values := range [][]string{nil, {""}, {"x"}, {"1", "2"}, header(unknown), header(moved)} {
			for _, now := range []int{2019, 2020} {
				d := policy.Decide(rules.Call{Door: door, Method: "GET", Path: "/", Header: values, Token: rules.UserToken, Now: date(now, 1, 1)}, placements)
				if d.Problem != nil && strings.Contains(d.Problem.Message, "%!") {
					t.Errorf("the %s door, header %q: %q\nfacts: %s", door, values, d.Problem.Message, otherEnvironment)
				}
			}
		}
	}
}

func TestSeedPolicy(t *testing.T) {
	seed := rules.Seed()
	for _, c := range []struct {
		name      string
		seed      string
		got, want any
	}{
		{"the header", headerOnEachCall, seed.CompanyHeader, "Procore-Company-Id"},
		{"the product", headerOnEachCall, seed.Product, "Procore"},
		{"the host of the login door", newCustomers, seed.LoginHost, "login.procore.com"},
		{"the host of the api door", newCustomers, seed.APIHost, "api.procore.com"},
		{"the default region", migrated, seed.DefaultRegion, company.Region("US01")},
		{"the exempt routes", exemptRoutes, seed.Exempt, []rules.Route{{Method: "GET", Path: "/rest/v1.0/me"}, {Method: "GET", Path: "/rest/v1.0/companies"}}},
		{"the exception", exception, seed.ServiceAccountsNeedHeader, true},
		{"the first day of the regions", onboardNew, seed.RegionsLive, date(2018, 10, 31)},
		{"the last day of the legacy door", serveExisting, seed.LegacySunset, date(2019, 6, 30)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s is %v; want %v\nseed: %s", c.name, c.got, c.want, c.seed)
		}
	}
	seed.Exempt[0] = rules.Route{Method: "DELETE", Path: "/"}
	if again := rules.Seed(); slices.Contains(again.Exempt, seed.Exempt[0]) {
		t.Error("a change of one policy's exempt routes changes the next policy")
	}
}
