package rules_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

// FuzzDecide holds what is true of every decision, whatever the call.
func FuzzDecide(f *testing.F) {
	for _, route := range []rules.Route{
		{Method: "GET", Path: "/rest/v1.0/me"}, {Method: "GET", Path: "/rest/v1.0/companies"}, {Method: "HEAD", Path: "/rest/v1.0/me"},
		{Method: "POST", Path: "/rest/v1.0/companies"}, {Method: "GET", Path: "/rest/v1.0/me/"}, {Method: "GET", Path: "//rest/v1.0/me"},
		{Method: "GET", Path: "/rest/v1.0/%2e%2e/me"}, {Method: "GET", Path: "/rest/v1.0/projects"}, {Method: "", Path: ""},
	} {
		for i, value := range []string{"", "4711", "4712", "4713", "4714", "598134325779301", "4799", "0", "-1", "x"} {
			f.Add(route.Method, route.Path, value, uint8(i), uint8(i), uint8(i), int64(existing), int64(existing), during.UnixNano())
		}
	}
	f.Add("GET", "/rest/v1.0/projects", "", uint8(0), uint8(3), uint8(1), int64(existing), int64(0), date(2019, 7, 1).UnixNano()-1)
	f.Add("GET", "/rest/v1.0/projects", "", uint8(0), uint8(3), uint8(1), int64(existing), int64(0), date(2019, 7, 1).UnixNano())
	f.Add("GET", "/rest/v1.0/projects", "", uint8(0), uint8(3), uint8(1), int64(-1), int64(0), int64(0))
	f.Add("GET", "/rest/v1.0/me", "4711", uint8(1), uint8(2), uint8(2), int64(0), int64(moved), int64(0))
	policy := rules.Seed()
	f.Fuzz(func(t *testing.T, method, path, value string, times, door, kind uint8, hinted, own, now int64) {
		call := rules.Call{
			Door: rules.Door(door % 5), Method: method, Path: path, Header: slices.Repeat([]string{value}, int(times%3)),
			Hinted: company.ID(hinted), Token: rules.TokenKind(kind % 4), Now: time.Unix(0, now),
		}
		if call.Token == rules.TraditionalToken {
			call.TokenCompany = company.ID(own)
		}
		d := policy.Decide(call, placements)
		switch d.Action {
		case rules.Refuse:
			holdsRefused(t, d)
		case rules.Forward:
			holdsForwarded(t, call, d)
		case rules.Identity:
			holdsAnswered(t, policy, call, d)
		default:
			t.Fatalf("%+v: action %d", call, d.Action)
		}
		if again := policy.Decide(call, placements); !reflect.DeepEqual(again, d) {
			t.Fatalf("%+v: %+v, and then %+v", call, d, again)
		}
		if call.Door != rules.DoorLegacy {
			other := call
			other.Hinted, other.Now = 0, time.Time{}
			if got := policy.Decide(other, placements); !reflect.DeepEqual(got, d) {
				t.Fatalf("%+v: %+v, but %+v at another time, with the company nowhere else", call, d, got)
			}
		}
	})
}

var refusals = []problem.Code{
	problem.MissingCompanyHeader, problem.InvalidCompanyHeader, problem.CompanyForbidden, problem.AppNotConnected,
	problem.LegacySunset, problem.LegacyForbidden, problem.NotFound,
}

func holdsRefused(t *testing.T, d rules.Decision) {
	t.Helper()
	if d.Problem == nil || d.Problem.Message == "" || !slices.Contains(refusals, d.Problem.Code) || d.Problem.Code.Status()/100 != 4 {
		t.Fatalf("refused with %+v", d.Problem)
	}
	if d.Filled || d.Placement != (company.Placement{}) {
		t.Fatalf("a refusal with %+v", d)
	}
}

func holdsForwarded(t *testing.T, call rules.Call, d rules.Decision) {
	t.Helper()
	placement, known := placements[d.Company]
	if !known || d.Placement != placement || d.Problem != nil {
		t.Fatalf("%+v was forwarded for an unknown company or to another region: %+v", call, d)
	}
	if call.TokenCompany != 0 && call.TokenCompany != d.Company {
		t.Fatalf("%+v was forwarded for another company than the token's: %+v", call, d)
	}
	switch call.Door {
	case rules.DoorAPI:
		if d.Filled || !names(call.Header, d.Company) {
			t.Fatalf("%+v was forwarded at the api door: %+v\nseed: %s", call, d, headerOnEachCall)
		}
	case rules.DoorLegacy:
		if !call.Now.Before(date(2019, time.July, 1)) {
			t.Fatalf("%+v was forwarded: %+v\nseed: %s", call, d, serveExisting)
		}
		if placement.Region != "US01" || !placement.Onboarded.Before(date(2018, time.October, 31)) {
			t.Fatalf("%+v was forwarded: %+v\nseed: %s", call, d, noNewCustomers)
		}
		if d.Filled != (len(call.Header) == 0) || d.Filled && d.Company != call.Hinted || !d.Filled && !names(call.Header, d.Company) {
			t.Fatalf("%+v was forwarded for a company that it doesn't name so: %+v", call, d)
		}
	default:
		t.Fatalf("%+v was forwarded: %+v", call, d)
	}
}

func holdsAnswered(t *testing.T, policy rules.Policy, call rules.Call, d rules.Decision) {
	t.Helper()
	if !slices.Contains(policy.Exempt, rules.Route{Method: call.Method, Path: call.Path}) {
		t.Fatalf("%+v was answered: %+v\nseed: %s", call, d, exemptRoutes)
	}
	if call.Door != rules.DoorAPI && call.Door != rules.DoorLegacy || d.Problem != nil || d.Filled {
		t.Fatalf("%+v was answered: %+v", call, d)
	}
	if len(call.Header) == 0 {
		if d.Company != 0 || d.Placement != (company.Placement{}) {
			t.Fatalf("%+v was answered for a company that it doesn't name: %+v", call, d)
		}
		if call.Door == rules.DoorAPI && call.Token.ServiceAccount() {
			t.Fatalf("%+v was answered: %+v\nseed: %s", call, d, exception)
		}
		return
	}
	if placement, known := placements[d.Company]; !known || placement != d.Placement || !names(call.Header, d.Company) {
		t.Fatalf("%+v was answered for another company: %+v", call, d)
	}
}

// names says whether the header is one value that is this company's id.
func names(header []string, id company.ID) bool {
	if len(header) != 1 || !isID(header[0]) {
		return false
	}
	got, err := company.ParseID(header[0])
	return err == nil && got == id
}
